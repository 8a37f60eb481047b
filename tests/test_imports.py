"""What importing this repository does: zlib before Paddle, no noise, arrows that run one way."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).replace(".__init__", "")
    for package in ("SCFNet", "backbones", "datasets")
    for path in (ROOT / package).glob("*.py")
)


def run_python(code):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # Paddle warns of any other
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True)


@pytest.mark.parametrize("module", ["SCFNet.net", "SCFNet.engine", "backbones.SwinT"])
def test_zlib_is_loaded_before_paddle(module):
    done = run_python(
        f"import sys, {module}\n"
        "order = list(sys.modules)\n"
        "assert order.index('zlib') < order.index('paddle'), 'paddle came first'\n"
        "import zlib, numpy\n"
        "data = numpy.random.default_rng(0).bytes(100000) * 2\n"
        "assert zlib.decompress(zlib.compress(data)) == data\n"
    )
    assert done.returncode == 0, done.stderr


def test_importing_the_network_prints_nothing():
    done = run_python("import SCFNet.net")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module):
    path = ROOT / (module.replace(".", "/") + ".py")
    path = path if path.exists() else ROOT / module.replace(".", "/") / "__init__.py"
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.split(".")[0])
    allowed = {"backbones": [], "datasets": ["backbones"], "SCFNet": ["datasets", "backbones"]}
    own = module.split(".")[0]
    forbidden = {"tools", "tests", *allowed} - {own, *allowed[own]}
    assert not imported & forbidden
