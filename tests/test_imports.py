"""What importing this repository does: zlib before Paddle, no noise, arrows that run one way."""

import ast
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).replace(".__init__", ""): path
    for package in ("SCFNet", "backbones", "datasets", "tools")
    for path in sorted((ROOT / package).glob("**/*.py"))
}
# From the ground up: a module imports from the floors below its own, and from its own room.
FLOORS = [
    ["SCFNet.packages"],
    ["SCFNet.errors"],
    ["SCFNet.files", "SCFNet.maps", "SCFNet.parallel"],
    ["SCFNet.photos"],
    ["backbones", "datasets"],
    ["SCFNet.cli", "SCFNet.device", "SCFNet.loss", "SCFNet.metrics", "SCFNet.prediction.rendering"],
    ["SCFNet.net", "SCFNet.formats"],
    ["SCFNet.zoo"],
    ["SCFNet.checkpoint"],
    ["SCFNet.backends"],
    ["SCFNet.predictor", "SCFNet.training"],
    ["SCFNet.variants"],
    ["SCFNet.engine", "SCFNet.export", "SCFNet.prediction"],
    ["SCFNet.distill", "SCFNet.scoring", "SCFNet.serving"],
    ["SCFNet.benchmarks"],
    ["tools"],
]


def room_of(module):
    """The entry of FLOORS that a module belongs to, and its floor."""
    rooms = [(room, i) for i, floor in enumerate(FLOORS) for room in floor]
    found = [(room, i) for room, i in rooms if f"{module}.".startswith(f"{room}.")]
    assert found or module == "SCFNet", f"{module} is in no room of FLOORS"
    return found[0] if found else ("SCFNet", 1)


@lru_cache(maxsize=None)
def imported_by(path):
    """The modules of this repository that a file imports, within functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    names = {name if name in FILES else name.rpartition(".")[0] for name in found}
    return names & set(FILES)


def run_python(code):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # Paddle warns of any other
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True)


def import_and_inflate(module):
    """Import a module, look whether zlib came before Paddle, and let zlib inflate something."""
    return run_python(
        f"import sys, {module}\n"
        "order = list(sys.modules)\n"
        "assert order.index('zlib') < order.index('paddle'), 'paddle came first'\n"
        "import zlib, numpy\n"
        "data = numpy.random.default_rng(0).bytes(100000) * 2\n"
        "assert zlib.decompress(zlib.compress(data)) == data\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize("module", ["backbones.SwinT", "SCFNet.engine"])
def test_zlib_is_loaded_before_paddle(module):
    done = import_and_inflate(module)
    assert done.returncode == 0, done.stderr


def test_the_network_loads_zlib_before_paddle_and_prints_nothing():
    done = import_and_inflate("SCFNet.net")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_imports_run_one_way():
    for module, path in FILES.items():
        room, floor = room_of(module)
        for other in imported_by(path):
            other_room, other_floor = room_of(other)
            assert other_room == room or other_floor < floor, f"{module} imports {other}"


def test_no_imports_run_in_a_circle():
    arrows = {module: imported_by(path) - {module} for module, path in FILES.items()}
    while arrows:
        ends = [module for module, found in arrows.items() if not found & set(arrows)]
        assert ends, f"a circle among {sorted(arrows)}"
        for module in ends:
            del arrows[module]


def test_a_file_says_its_subject_first():
    texts = {module: path.read_text(encoding="utf-8") for module, path in FILES.items()}
    assert [module for module, text in texts.items() if not text.startswith('"""')] == []
