"""Run every shell block of a README on small made data, and say a line for each.

    python .ci/readme.py README.md           # in a copy of this repository, which is then removed
    python .ci/readme.py README.md --whole   # print the block that installs all, and run nothing
    python .ci/readme.py README.md --section "The paper's tables and figures" --keep output/paper

Commands run unchanged but for what makes them short: see `SHORT`. A block that cannot run here says
why in the line before it, `<!-- not run: WHY -->`. One block is left out: it installs
everything and runs the tests, which .ci/run does by itself.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import List, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

BLOCK = re.compile(r"(?:<!-- not run: (?P<why>.+?) -->\n)?```bash\n(?P<text>.*?)```", re.DOTALL)
WHOLE = "pip install -r requirements.txt && "  # how that block begins
LABELLED = ("DUTS-TR", "DUTS-TE", "ECSSD", "HKU-IS", "DUT-OMRON", "PASCAL-S", "SOD", "mine")
PAIRS = {"DUTS-TR": 20, "mine": 10}  # of the others 4
# What is appended to the commands of a tool; a flag that comes twice has its last value.
TRAINING = "--epochs 1 --batch-size 4 --sizes 64 --workers 1"
SHORT = {
    "tools/train.py": TRAINING,
    "tools/distill.py": TRAINING,
    "tools/eval.py": "--size 96",
    "tools/benchmark.py": "--seconds 0.1 --batches 1",
}


class Block(NamedTuple):
    """A shell block: its commands, a line each, why it is not run, if it is not, and under which
    heading it is.
    """

    commands: List[str]
    why: str
    section: str


def blocks_of(readme: Path) -> List[Block]:
    """The ```bash blocks of a Markdown file, continued lines joined, comments taken out."""
    blocks = []
    text = readme.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        lines = re.sub(r"\\\n\s*", "", match["text"]).splitlines()
        commands = [re.sub(r"(^|\s)#.*", "", line).strip() for line in lines]
        section = ["", *re.findall(r"^##+ (.+)$", text[: match.start()], re.MULTILINE)][-1]
        commands = [command for command in commands if command]
        blocks.append(Block(commands, match["why"] or "", section))
    return blocks


def shortened(command: str) -> str:
    """The command with the flags that make it short."""
    for tool, flags in SHORT.items():
        if tool in command and (tool != "tools/eval.py" or "--weights" in command):
            command += f" {flags}"
            if flags == TRAINING and not re.search("--(pretrained|finetune)", command):
                command += " --pretrained none"
    return command


def make_small_world(folder: Path) -> None:
    """A copy of this repository with the data, photos, maps and files that a README names."""
    from tests.conftest import write_pairs

    ignored = shutil.ignore_patterns(
        ".git", "data", "output", "build", "*.egg-info", "*_cache", "__pycache__", ".venv*"
    )
    shutil.copytree(ROOT, folder, ignore=ignored)
    shutil.copytree(ROOT / "tests" / "data", folder / "tests" / "data")
    for name in LABELLED:
        pairs = write_pairs(folder / "data" / name, count=PAIRS.get(name, 4))
        for method in ("F3Net", "U2Net"):
            shutil.copytree(pairs / "mask", folder / "maps" / method / name)
    shutil.copytree(folder / "data" / "DUTS-TR" / "image", folder / "data" / "KD-SOD80K" / "image")
    shutil.copytree(folder / "data" / "DUTS-TR" / "image", folder / "photos")
    shutil.copytree(folder / "data" / "DUTS-TR" / "mask", folder / "teacher-maps")
    shutil.copy(ROOT / "tests" / "data" / "coffee.jpg", folder / "photo.jpg")
    published = ROOT / "tests" / "data" / "release_M3_0.5.pdparams"
    shutil.copy(published, folder / "weights" / "KD-SCFNet.pdparams")
    write_video(folder / "clip.mp4")


def write_video(path: Path) -> None:
    """Six frames of noise, 96 x 64."""
    import cv2
    import numpy as np

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 24, (96, 64))
    for frame in np.random.default_rng(0).integers(0, 256, (6, 64, 96, 3), "uint8"):
        writer.write(frame)
    writer.release()


def run_blocks(blocks: List[Block], folder: Path) -> int:
    """Run the blocks in `folder`, print a line for each; how many failed."""
    passed = failed = left_out = 0
    for number, block in enumerate(blocks, 1):
        title = f"block {number}: {block.commands[0]}"
        if block.why:
            left_out += 1
            print(f"{title} ... not run: {block.why}", flush=True)
            continue
        print(f"{title} ({len(block.commands)} commands) ... ", end="", flush=True)
        start = time.monotonic()
        fault = first_fault(block.commands, folder)
        print(fault or f"passed in {time.monotonic() - start:.0f} s", flush=True)
        if fault:
            failed += 1
        else:
            passed += 1
    print(f"{passed} passed, {failed} failed, {left_out} not run")
    return failed


def first_fault(commands: List[str], folder: Path) -> str:
    """Run commands one after another; what the first that fails has said, or nothing."""
    for command in map(shortened, commands):
        run = ["bash", "-euo", "pipefail", "-c", command]
        done = subprocess.run(
            run, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if done.returncode:
            return f"FAILED with {done.returncode}: {command}\n{done.stdout[-3000:]}"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("readme", type=Path)
    parser.add_argument("--whole", action="store_true", help="print the block that installs all")
    parser.add_argument("--section", help="run the blocks below this heading alone")
    parser.add_argument("--without", help="leave out the blocks below this heading")
    parser.add_argument("--keep", type=Path, help="copy what the commands write to this folder")
    args = parser.parse_args()
    blocks = blocks_of(args.readme)
    whole = next(block for block in blocks if block.commands[0].startswith(WHOLE))
    if args.whole:
        print("\n".join(whole.commands))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        world = Path(folder) / "SCFNet"
        make_small_world(world)
        blocks = [b for b in blocks if b != whole and args.section in (None, b.section)]
        blocks = [b for b in blocks if b.section != args.without]
        failed = run_blocks(blocks, world)
        if args.keep:
            shutil.copytree(world / "output", args.keep, dirs_exist_ok=True)
        return 1 if failed or not blocks else 0


if __name__ == "__main__":
    sys.exit(main())
