"""Installing: what requirements.txt names on which machine, and life without a package."""

import ast
import importlib
import os
import re
import shutil
import sys
from functools import partial

import numpy
import pytest
from packaging.requirements import Requirement

import SCFNet
from SCFNet import NEEDS_REPOSITORY
from SCFNet.cli import run
from SCFNet.packages import BESIDE_NUMPY_2, OURS, PACKAGES
from tests.conftest import COFFEE, RELEASED, ROOT, predict, run_python

PREDICTION = {"numpy", "opencv-python-headless", "Pillow", "onnxruntime", "tqdm"}
LINES = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
REQUIREMENTS = [
    Requirement(line.partition("  #")[0]) for line in LINES if line[:1] not in ("", "#")
]
# pytest brings the second
tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]
OPTIONAL = {"av", "pillow_heif"}  # named in the README, and missed in one line
STANDARD_LIBRARY = getattr(sys, "stdlib_module_names", ())  # Python 3.10


@pytest.mark.parametrize(
    ("python", "system", "machine", "paddles"),
    [
        ("3.8", "linux", "x86_64", ["paddlepaddle-gpu==2.6.2", "paddle2onnx==1.3.1"]),
        ("3.12", "win32", "AMD64", ["paddlepaddle-gpu==2.6.2", "paddle2onnx==1.3.1"]),
        ("3.13", "linux", "x86_64", ["paddlepaddle>=3"]),
        ("3.11", "linux", "aarch64", ["paddlepaddle>=3", "paddle2onnx==2.1.0"]),
        ("3.11", "darwin", "arm64", ["paddlepaddle>=3", "paddle2onnx==2.1.0"]),
        ("3.11", "darwin", "x86_64", ["paddlepaddle>=3", "paddle2onnx==2.1.0"]),
    ],
)
def test_each_machine_gets_one_paddle_and_its_converter(python, system, machine, paddles):
    place = {"python_version": python, "sys_platform": system, "platform_machine": machine}
    found = [r for r in REQUIREMENTS if r.marker is None or r.marker.evaluate(place)]
    assert {f"{r.name}{r.specifier}" for r in found if "paddle" in r.name} == set(paddles)


@pytest.mark.skipif(not STANDARD_LIBRARY, reason="needs Python 3.10")
def test_all_that_is_imported_is_named():
    """Within functions too."""
    modules = set()
    for room in (*OURS, "tools", "tests"):
        for file in (ROOT / room).glob("**/*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    modules.update(alias.name.partition(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom):
                    modules.add((node.module or "").partition(".")[0])
    modules -= {*STANDARD_LIBRARY, *OURS, "_repository", "tests", "paddle", "packaging"}
    packages = {package for module in modules for package in PACKAGES.get(module, module).split()}
    assert packages - OPTIONAL <= {r.name for r in REQUIREMENTS}


def tool_code(tool):
    """Python code that runs tools/`tool`.py."""
    start = "import runpy, sys; sys.path.insert(0, 'tools')"
    return f"{start}; runpy.run_path('tools/{tool}.py', run_name='__main__')"


def without(modules, tool, *arguments):
    """Run tools/`tool`.py where `modules` are not installed."""
    missing = f"import sys; sys.modules.update(dict.fromkeys({sorted(modules)!r}))\n"
    return run_python(missing + tool_code(tool), *arguments)


def test_prediction_needs_five_packages(tmp_path):
    packages = {r.name for r in REQUIREMENTS} - PREDICTION
    modules = {module for module, package in PACKAGES.items() if package in packages}
    others = {name.replace("-", "_") for name in packages} | modules | {"paddle"} | OPTIONAL
    done = without(others - {"packaging"}, "predict", COFFEE, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "coffee.png").is_file()


@pytest.fixture
def no_paddle(monkeypatch):
    """Paddle is not installed."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setitem(sys.modules, "paddle", None)


def test_a_machine_with_an_nvidia_card_needs_no_paddle_either(tmp_path, monkeypatch, no_paddle):
    """The card's driver brings `nvidia-smi`; whoever installed five packages has no Paddle."""
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for weights in ("accurate", "small", "weights/KD-SCFNet-DUTS.pdparams"):
        done = predict(COFFEE, "--weights", weights, "--output", tmp_path / "output" / weights)
        assert (done.returncode, "written" in done.stderr) == (0, True), done.stderr


@pytest.mark.parametrize(
    ("module", "tool", "arguments"),
    [
        ("numpy", "predict", [COFFEE]),
        ("cv2", "eval", ["--data", "tests"]),
        ("cv2", "distill", ["--teacher", "teacher.pdparams"]),
        ("paddle", "train", []),
        ("paddle", "distill", ["--teacher", "tests/data/release_M3_0.5.pdparams"]),
        pytest.param("filelock", "train", [], marks=pytest.mark.slow),
        ("paddle", "export", ["--weights", "weights/SCFNet-DUTS.pdparams"]),
        ("fastapi", "serve", []),
        ("python_multipart", "serve", []),
        ("numpy", "benchmark", []),
    ],
)
def test_a_missing_package_is_one_line(module, tool, arguments):
    if tool == "serve":
        pytest.importorskip("fastapi")  # is asked for first
    if module == "filelock":  # found missing after Paddle is imported
        pytest.importorskip("paddle")
    done = without([module], tool, *arguments)
    line = f"error: {module} is not installed: pip install {PACKAGES.get(module, module)}"
    assert done.stderr.strip().splitlines()[-1:] == [line]
    assert done.returncode == 2 and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("flags", "reason", "way_out"),
    [
        (["--engine", "paddle"], "--engine paddle", "leave --engine out"),
        (["--size", "320"], "--size 320", "leave --size out"),
        (["--weights", "tests/data/release_M3_0.5.pdparams"], "no .onnx file", "tools/export.py"),
    ],
)
def test_what_needs_paddle_is_named_with_both_ways_out(no_paddle, flags, reason, way_out):
    done = predict(COFFEE, *flags)
    line = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2 and line.startswith("error: paddle is not installed, and ")
    assert reason in line and way_out in line and "pip install -r requirements.txt" in line


EMPTY_FOLDER = """
import importlib.machinery, importlib.util, sys
spec = importlib.machinery.ModuleSpec("paddle", None, is_package=True)
sys.modules["paddle"] = importlib.util.module_from_spec(spec)
"""
BROKEN_PADDLE = {
    "an empty folder": ("", EMPTY_FOLDER, "paddle is not installed"),
    "an empty module": ("#", "", r"cannot import name|has no attribute"),
    "a damaged file": ("\0", "", "null bytes"),
    "an end of Python": ("raise SystemExit(1)", "", "SystemExit: 1"),
    "an error of a package's own": ("raise BaseException", "", "BaseException"),
    "a library that is missing": (
        "raise OSError('a.so: no such file')",
        "",
        r"a\.so: no such file",
    ),
}


@pytest.mark.parametrize("kind", BROKEN_PADDLE)
def test_a_paddle_that_does_not_import_is_one_line(kind, tmp_path):
    code, before, line = BROKEN_PADDLE[kind]
    (tmp_path / "paddle.py").write_text(code)
    for tool, arguments in (
        ("predict", [COFFEE, "--weights", RELEASED]),
        ("train", []),
        ("export", ["--weights", "weights/SCFNet-DUTS.pdparams"]),
        # whose networks are measured in a process of its own, where a made-up module is not
        *([("benchmark", ["--models", "M3_0.5"])] if code else []),
    ):
        done = run_python(before + tool_code(tool), *arguments, path=tmp_path)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        assert re.search(rf"error: .*(?:{line}).*: pip install .*-r requirements\.txt", done.stderr)


@pytest.mark.parametrize("kind", BROKEN_PADDLE)
def test_a_paddle_that_does_not_import_costs_no_prediction(kind, tmp_path):
    """Nor on a machine with an NVIDIA card, where Paddle is asked first."""
    code, before, _ = BROKEN_PADDLE[kind]
    (tmp_path / "paddle.py").write_text(code)
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    before += f"import os; os.environ['PATH'] = {path!r}\n"
    done = run_python(before + tool_code("predict"), COFFEE, "--output", tmp_path, path=tmp_path)
    assert (done.returncode, (tmp_path / "coffee.png").is_file()) == (0, True), done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder that pip installs into, with what pyproject.toml lists, and nothing beside it."""
    folder = tmp_path_factory.mktemp("site-packages")
    for package in SETUPTOOLS["packages"]:
        source = ROOT / SETUPTOOLS["package-dir"].get(package, package.replace(".", "/"))
        target = folder / package.replace(".", "/")
        target.mkdir()
        for pattern in ("*.py", *SETUPTOOLS["package-data"].get(package, ())):
            for file in source.glob(pattern):
                shutil.copy(file, target)
    return folder


ENTRY = PYPROJECT["project"]["scripts"]["scfnet"].partition(":")
SCFNET = f"from {ENTRY[0]} import {ENTRY[2]}; {ENTRY[2]}()"


def test_what_is_installed_predicts_anywhere_and_serves(installed, tmp_path):
    """`serve` as the first word is the server, and else a file."""
    run_command = partial(run_python, SCFNET, folder=tmp_path, path=installed)
    shutil.copy(COFFEE, tmp_path / "serve")
    done = run_command("./serve", "--save", "cutout", "--weights", "accurate")
    assert (done.returncode, done.stderr) == (0, "written: output/serve-cutout.png\n")
    helped = run_command("serve", "--help")
    assert helped.returncode == 0 and "Serve a page" in helped.stdout
    done = run_command(COFFEE, "--weights", RELEASED)
    assert (done.returncode, done.stderr) == (2, f"error: {RELEASED}: {NEEDS_REPOSITORY}\n")


def test_what_is_installed_imports_one_top_level_package(installed, tmp_path):
    code = (
        "import sys, numpy, SCFNet; from SCFNet import Predictor\n"
        "assert Predictor('small')(numpy.zeros((64, 64, 3), 'uint8')).shape == (64, 64)\n"
        "print(SCFNet.__file__, {'datasets', 'backbones', 'paddle'} & set(sys.modules))\n"
        "from SCFNet import load_net\n"
    )
    done = run_python(code, folder=tmp_path, path=installed)
    assert done.stdout.split() == [str(installed / "SCFNet/__init__.py"), "set()"], done.stderr
    assert done.stderr.splitlines()[-1] == f"ImportError: {NEEDS_REPOSITORY}"


def test_pip_installs_what_the_readme_names_for_prediction():
    needed = {Requirement(line).name for line in PYPROJECT["project"]["dependencies"]}
    assert needed == PREDICTION | {"simplejpeg"}
    optional = PYPROJECT["project"]["optional-dependencies"]
    named = {Requirement(line).name for lines in optional.values() for line in lines}
    assert named <= {r.name for r in REQUIREMENTS}


def test_a_hosts_own_modules_of_our_names_are_left_alone(tmp_path):
    """Hugging Face's `datasets` and others' `backbones`, imported before SCFNet and after it."""
    for file in ("datasets/__init__.py", "backbones/__init__.py", "tools.py", "weights.py"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("MINE = True")
    code = (
        "import sys, numpy, datasets, backbones, tools, weights\n"
        "from SCFNet import Predictor, predict\n"
        "from SCFNet.prediction.command import main\n"
        "assert Predictor('small')(numpy.zeros((64, 64, 3), 'uint8')).shape == (64, 64)\n"
        "print(all(host.MINE for host in (datasets, backbones, tools, weights)), main())\n"
    )
    done = run_python(code, COFFEE, folder=tmp_path, path=ROOT)
    assert (done.returncode, done.stdout) == (0, "True 0\n"), done.stderr


IN_PYTHON = """
from SCFNet.errors import InputError
try:
    from SCFNet import Predictor
    Predictor('small')
except (ImportError, InputError) as error:
    print(error)
"""


def fails_in_one_line(folder, module, code, line):
    """Predicting by the tool, and by Python, where `code` is what the package `module` holds."""
    (folder / module).mkdir()
    (folder / module / "__init__.py").write_text(code)
    path = f"{folder}{os.pathsep}{ROOT}"
    done = run_python(IN_PYTHON + tool_code("predict"), COFFEE, path=path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert re.search(line, done.stdout) and done.stdout.count("\n") == 1
    assert re.search(f"error: .*{line}", done.stderr.strip().splitlines()[-1])


BROKEN = {
    "a library that is missing": ("cv2", "raise ImportError('libGL.so.1: cannot open\\nit')"),
    "another numpy": ("cv2", "import numpy; numpy.of_another_age"),
    "its own part": ("PIL", "from PIL import _imaging"),
    "a DLL": ("onnxruntime", "raise ImportError('DLL load failed')"),
    "an exception of any kind": ("onnxruntime", "raise RuntimeError('CPU dispatcher')"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_package_that_does_not_import_is_one_line(kind, tmp_path):
    module, code = BROKEN[kind]
    line = rf"{module} (does not import|is not installed).*: pip install "
    fails_in_one_line(tmp_path, module, code, line)


@pytest.mark.parametrize(
    ("module", "package", "version"),
    [
        ("onnxruntime", "onnxruntime", "1.16.3"),
        ("onnxruntime", "onnxruntime-gpu", "1.18.1"),
        ("cv2", "opencv-python", "4.8.1.78"),
    ],
)
def test_what_ends_the_process_beside_numpy_2_is_not_imported(module, package, version, tmp_path):
    if int(numpy.__version__.partition(".")[0]) < 2:
        pytest.skip("numpy 1 is installed")
    for name in BESIDE_NUMPY_2[module][0]:
        info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    line = rf"{version} does not run beside numpy 2.*: pip install --upgrade "
    fails_in_one_line(tmp_path, module, "import os; os.abort()", line)


def test_onnx_runtime_tells_nobody_unless_the_host_lets_it(tmp_path):
    """Its telemetry is read from the environment when it is imported."""
    clean = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    for host, expected in (({}, "1"), ({"ORT_DISABLE_TELEMETRY": "0"}, "0")):
        code = "import os, SCFNet; print(os.environ['ORT_DISABLE_TELEMETRY'])"
        assert run_python(code, environment={**clean, **host}).stdout.strip() == expected


def test_a_missing_module_of_this_repository_is_a_bug_and_is_shown():
    def main():
        from SCFNet import nothing_of_this_name  # noqa: F401

        return 0

    with pytest.raises(ImportError):
        run(main)


def test_the_public_names_are_there():
    from SCFNet.predictor import Predictor, predict

    assert SCFNet.Predictor is Predictor and SCFNet.predict is predict
    assert "Predictor" in dir(SCFNet)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        SCFNet.nothing  # noqa: B018
    pytest.importorskip("paddle")
    modules = SCFNet.SCFNet.__module__, SCFNet.load_net.__module__
    assert modules == ("SCFNet.net", "SCFNet.checkpoint")
