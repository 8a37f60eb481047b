"""SCFNet/cli.py: what a tool does when nobody reads it, or nobody can."""

import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from SCFNet import errors
from SCFNet.cli import Parser, run
from SCFNet.training.recipe import Recipe, parse
from tests.conftest import ROOT, fault_of, run_here

TOOL = """
import sys
from pathlib import Path
from SCFNet.errors import ArgumentError, InputError
from SCFNet.cli import run

def main():
    for number in range(2000):
        print("a photo \\u2193 caf\\udce9", number)
    Path(sys.argv[1]).write_text("all done")
    {end}

run(main)
"""


def main_command(tmp_path, end):
    """The command of a tool that prints much, works, and then does `end`."""
    return [sys.executable, "-c", TOOL.format(end=end), str(tmp_path / "work")]


def run_main(tmp_path, end="return 0", encoding="utf-8", **streams):
    """Start that tool."""
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    return subprocess.Popen(main_command(tmp_path, end), cwd=ROOT, env=environment, **streams)


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "ascii"])
def test_characters_that_the_console_lacks_are_escaped(tmp_path, encoding):
    process = run_main(tmp_path, encoding=encoding, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    arrow = "↓" if encoding == "utf-8" else "\\u2193"
    assert out.decode(encoding).splitlines()[1999] == f"a photo {arrow} caf\\udce9 1999"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_closed_pipe_ends_neither_the_work_nor_the_status(tmp_path, stream):
    reader, writer = os.pipe()
    os.close(reader)
    end = "raise InputError('it is bad')" if stream == "stderr" else "return 0"
    process = run_main(tmp_path, end, **{"stdout": subprocess.DEVNULL, stream: writer})
    os.close(writer)
    assert process.wait(timeout=60) == (2 if stream == "stderr" else 0)
    assert (tmp_path / "work").read_text() == "all done"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_output_that_cannot_be_written_is_one_line(tmp_path):
    with Path("/dev/full").open("wb") as full:
        process = run_main(tmp_path, stdout=full, stderr=subprocess.PIPE)
        err = process.communicate(timeout=60)[1]
    assert process.returncode == 2
    assert err == b"error: the output cannot be written: No space left on device\n"
    assert (tmp_path / "work").read_text() == "all done"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows hands down no closed stream")
def test_streams_that_are_closed_get_no_other_file(tmp_path):
    end = "file = open(sys.argv[1]); return file.fileno()"
    command = f"{shlex.join(main_command(tmp_path, end))} <&- >&- 2>&-"
    assert subprocess.run(command, shell=True, cwd=ROOT).returncode > 2


def test_a_tilde_is_the_home_folder_in_every_argument(monkeypatch):
    home = Path.home()
    parser = Parser("")
    parser.add_argument("paths", nargs="*")
    parser.add_argument("--output")
    given = ["~/a.jpg", "U2Net=~/maps", "a~b.jpg", "*~", "./~/c.jpg", "--output=~/out"]
    monkeypatch.setattr("sys.argv", ["tool", *given])
    for args in (parser.parse_args(given), parser.parse_args()):
        expected = [f"{home}/a.jpg", f"U2Net={home}/maps", "a~b.jpg", "*~", "./~/c.jpg"]
        assert (args.paths, args.output) == (expected, f"{home}/out")


@pytest.mark.parametrize(
    "end, status, line",
    [
        ("raise InputError('a.png: bad\\n\\x1b[31mforged\\udce9 é')", 2, "error: {}"),
        ("raise ArgumentError('batch_size', 'is 0')", 2, "error: --batch-size: is 0"),
        ("open('x' * 300)", 2, f"error: {'x' * 300}: File name too long"),
        ("raise KeyboardInterrupt", 130, "interrupted"),
    ],
)
def test_an_end_is_one_line_and_a_status(end, status, line):
    done = run_here(lambda: run(lambda: exec(end, vars(errors))))
    assert (done.returncode, done.stderr.splitlines()) == (
        status,
        [line.format(r"a.png: bad\n\x1b[31mforged\udce9 é")],
    )


@pytest.mark.parametrize("tool", ["predict", "train", "distill", "eval", "export", "benchmark"])
def test_a_flag_that_is_not_there_is_one_line(tool, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    path = str(ROOT / "tools" / f"{tool}.py")
    done = run_here(lambda: runpy.run_path(path, run_name="__main__"), "--colour")
    assert done.returncode == 2
    assert re.fullmatch(r"error: .+ \(--help lists the flags\)\n", done.stderr)


@pytest.mark.parametrize(
    ("tool", "flags"),
    [
        ("eval", "--masks --data --maps --weights --save-maps --json --costs"),
        ("export", "--weights --output --int8"),
        ("benchmark", "--photos --plot --json --scores"),
        ("train", "--data --pretrained --output --finetune"),
        ("distill", "--data --pretrained --output"),
        ("serve", "--weights --host"),
    ],
)
def test_an_empty_name_is_one_line_that_has_the_flag(tool, flags):
    for flag in flags.split():
        for given in ([flag, ""], [f"{flag}="]):
            fault = fault_of(tool, *given)
            assert re.match(f"argument .*{flag}.*: the name is empty", fault), fault


def test_an_empty_name_may_mean_none():
    assert parse(Recipe, "", ["--val", "", "--resume", "", "--log-dir="]) == Recipe()


def test_tools_run_as_modules_too():
    command = [sys.executable, "-m", "tools.predict", "--help"]
    assert "usage" in subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
