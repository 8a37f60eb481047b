"""The READMEs: commands parse, files, flags and links exist, both languages say the same."""

import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
READMES = ["README.md", "README.zh-CN.md", "weights/README.md", "weights/runs/README.md"]
FIVE = "pip install numpy opencv-python-headless Pillow onnxruntime tqdm"
PUBLISHED = {"weights/KD-SCFNet.pdparams"}  # the authors': named, not bundled
blocks_of = runpy.run_path(str(ROOT / ".ci" / "readme.py"))["blocks_of"]


def text_of(readme):
    return (ROOT / readme).read_text(encoding="utf-8")


# What the two pages have in common: all but the language.
BLOCKS = re.compile(r"^(?:<!-- not run: .+ -->\n)?```(\w+)\n[\s\S]*?^```$", re.MULTILINE)
COMMENT = re.compile(r"(?:^|\s+)#.*$", re.MULTILINE)
PARTS = {
    "blocks": lambda text: [COMMENT.sub("", block[0]) for block in BLOCKS.finditer(text)],
    "headings": lambda text: re.findall(r"^#+(?= )", BLOCKS.sub("", text), re.MULTILINE),
    "tables": lambda text: [
        len(re.split(r"(?<!`)\|", row)) for row in re.findall(r"^\|.*", text, re.M)
    ],
    "links": lambda text: sorted(set(re.findall(r"\]\((?!README)([^)]+)\)", text))),
}


def commands_of(readme):
    return [command for block in blocks_of(ROOT / readme) for command in block.commands]


def anchors_of(file):
    """What GitHub makes of the headings of a Markdown file."""
    headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture(scope="module")
def help_of():
    """The --help of each tool."""
    found = {}
    for tool in (ROOT / "tools").glob("[!_]*.py"):
        command = [sys.executable, str(tool), "--help"]
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
        assert done.returncode == 0, done.stderr
        found[f"tools/{tool.name}"] = done.stdout
    return found


def test_five_packages_come_first_and_then_the_whole():
    five, whole = (block.commands for block in blocks_of(ROOT / "README.md")[:2])
    assert five[0] == FIVE
    assert five[1].startswith("python tools/predict.py tests/data/coffee.jpg")
    assert whole == [f"pip install -r requirements.txt && {five[1]}", "python -m pytest"]


@pytest.mark.parametrize("what", PARTS)
def test_the_two_pages_say_the_same(what):
    english, chinese = (PARTS[what](text_of(readme)) for readme in READMES[:2])
    assert english
    assert chinese == english


@pytest.mark.parametrize("readme", READMES)
def test_files_named_in_commands_exist(readme):
    words = {word for command in commands_of(readme) for word in command.split()}
    named = {word for word in words if re.match(r"(tools|tests|weights)/", word)} - PUBLISHED
    assert named, "no command names a file"
    assert [word for word in sorted(named) if not (ROOT / word).exists()] == []


@pytest.mark.slow
@pytest.mark.parametrize("readme", READMES)
def test_flags_in_commands_exist(readme, help_of):
    for command in commands_of(readme):
        tool = re.search(r"tools/\w+\.py", command)
        if tool:
            for flag in re.findall(r"--[\w-]+", command[tool.end() :]):
                assert re.search(rf"{flag}\b", help_of[tool[0]]), f"{tool[0]} has no {flag}"


@pytest.mark.parametrize("readme", READMES)
@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_blocks_parse(readme):
    script = "\n".join(commands_of(readme))
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    for block in re.findall(r"```python\n(.*?)```", text_of(readme), re.DOTALL):
        compile(block, readme, "exec")


@pytest.mark.parametrize("readme", READMES)
def test_links_lead_to_files_and_headings(readme):
    folder = (ROOT / readme).parent
    links = re.findall(r"\]\((?!https?://)([^)]+)\)", text_of(readme))
    for link in links:
        path, _, anchor = link.partition("#")
        target = folder / path if path else ROOT / readme
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


def test_what_prediction_needs_is_named_alike():
    for file in ("README.md", "README.zh-CN.md", "requirements.txt"):
        assert FIVE in text_of(file), file
