"""Installing: what requirements.txt names on which machine, and life without a package."""

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
from functools import partial

import pytest
from packaging.requirements import Requirement

import SCFNet
from SCFNet import NEEDS_REPOSITORY
from SCFNet.cli import run
from SCFNet.packages import OURS, PACKAGES
from SCFNet.prediction.command import run_command
from tests.conftest import ROOT, run_here

COFFEE = ROOT / "tests" / "data" / "coffee.jpg"
predict = partial(run_here, run_command)
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


def installed_on(python, system, machine):
    environment = {
        "python_version": python,
        "sys_platform": system,
        "platform_machine": machine,
    }
    found = [r for r in REQUIREMENTS if r.marker is None or r.marker.evaluate(environment)]
    return [f"{r.name}{r.specifier}" for r in found]


@pytest.mark.parametrize(
    ("machine", "paddle", "paddle2onnx"),
    [
        (("3.8", "linux", "x86_64"), "paddlepaddle-gpu==2.6.2", ["paddle2onnx==1.3.1"]),
        (("3.12", "win32", "AMD64"), "paddlepaddle-gpu==2.6.2", ["paddle2onnx==1.3.1"]),
        (("3.13", "linux", "x86_64"), "paddlepaddle>=3", []),
        (("3.11", "linux", "aarch64"), "paddlepaddle>=3", ["paddle2onnx==2.1.0"]),
        (("3.11", "darwin", "arm64"), "paddlepaddle>=3", ["paddle2onnx==2.1.0"]),
        (("3.11", "darwin", "x86_64"), "paddlepaddle>=3", ["paddle2onnx==2.1.0"]),
    ],
)
def test_each_machine_gets_one_paddle_and_its_converter(machine, paddle, paddle2onnx):
    found = installed_on(*machine)
    assert [name for name in found if name.startswith("paddlepaddle")] == [paddle]
    assert [name for name in found if name.startswith("paddle2onnx")] == paddle2onnx


def imported_packages():
    """What this repository imports of others, within functions too, as pip calls it."""
    files = [f for room in (*OURS, "tools", "tests") for f in (ROOT / room).glob("**/*.py")]
    modules = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                modules.add((node.module or "").partition(".")[0])
    others = modules - {*STANDARD_LIBRARY, *OURS, "_repository", "tests", "paddle", "packaging"}
    return {package for module in others for package in PACKAGES.get(module, module).split()}


@pytest.mark.skipif(not STANDARD_LIBRARY, reason="needs Python 3.10")
def test_all_that_is_imported_is_named():
    assert imported_packages() - OPTIONAL <= {r.name for r in REQUIREMENTS}


def without(modules, tool, *arguments):
    """Run tools/`tool`.py where `modules` are not installed."""
    code = (
        "import runpy, sys\n"
        "sys.path.insert(0, 'tools')\n"
        f"sys.modules.update(dict.fromkeys({sorted(modules)!r}))\n"
        f"sys.argv = {['tool', *map(str, arguments)]!r}\n"
        f"runpy.run_path('tools/{tool}.py', run_name='__main__')\n"
    )
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


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


def run_installed(installed, folder, code, *arguments):
    """Run Python code in `folder`, where SCFNet is installed."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


ENTRY = PYPROJECT["project"]["scripts"]["scfnet"].partition(":")
SCFNET = f"from {ENTRY[0]} import {ENTRY[2]}; {ENTRY[2]}()"


def test_what_is_installed_predicts_anywhere(installed, tmp_path):
    arguments = COFFEE, "--save", "cutout", "--weights", "accurate"
    done = run_installed(installed, tmp_path, SCFNET, *arguments)
    assert (done.returncode, done.stderr) == (0, "written: output/coffee-cutout.png\n")


def test_serve_as_first_word_is_the_server_and_else_a_file(installed, tmp_path):
    shutil.copy(COFFEE, tmp_path / "serve")
    helped = run_installed(installed, tmp_path, SCFNET, "serve", "--help")
    assert helped.returncode == 0 and "Serve a page" in helped.stdout
    done = run_installed(installed, tmp_path, SCFNET, "./serve")
    assert done.returncode == 0 and (tmp_path / "output/serve.png").is_file()


def test_what_is_installed_imports_one_top_level_package(installed, tmp_path):
    code = (
        "import sys, numpy, SCFNet; from SCFNet import Predictor\n"
        "assert Predictor('small')(numpy.zeros((64, 64, 3), 'uint8')).shape == (64, 64)\n"
        "print(SCFNet.__file__, {'datasets', 'backbones', 'paddle'} & set(sys.modules))\n"
    )
    done = run_installed(installed, tmp_path, code)
    assert done.stdout.split() == [str(installed / "SCFNet/__init__.py"), "set()"], done.stderr


@pytest.mark.parametrize(
    "weights", ["tests/data/release_M3_0.5.pdparams", "weights/SCFNet-DUTS.pdparams"]
)
def test_a_checkpoint_in_an_installed_package_is_one_line(installed, tmp_path, weights):
    checkpoint = shutil.copy(ROOT / weights, tmp_path)
    done = run_installed(installed, tmp_path, SCFNET, COFFEE, "--weights", checkpoint)
    assert (done.returncode, done.stderr) == (2, f"error: {checkpoint}: {NEEDS_REPOSITORY}\n")


def test_the_network_in_an_installed_package_is_one_line(installed, tmp_path):
    done = run_installed(installed, tmp_path, "from SCFNet import load_net")
    assert done.stderr.splitlines()[-1] == f"ImportError: {NEEDS_REPOSITORY}"


def test_pip_installs_what_the_readme_names_for_prediction():
    dependencies = set(PYPROJECT["project"]["dependencies"])
    assert dependencies == PREDICTION | {"simplejpeg"}
    optional = PYPROJECT["project"]["optional-dependencies"]
    named = {Requirement(line).name for lines in optional.values() for line in lines}
    assert named <= {r.name for r in REQUIREMENTS}


HOSTS = {
    "packages": ("datasets/__init__.py", "backbones/__init__.py"),
    "files": ("datasets.py", "backbones.py", "tools.py", "weights.py"),
}


@pytest.mark.parametrize("kind", HOSTS)
def test_a_hosts_own_modules_of_our_names_are_left_alone(tmp_path, kind):
    """Hugging Face's `datasets` and others' `backbones`, imported before SCFNet and after it."""
    for file in HOSTS[kind]:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("MINE = True")
    names = [file.partition("/")[0].replace(".py", "") for file in HOSTS[kind]]
    code = (
        f"import sys, numpy, {', '.join(names)}\n"
        "from SCFNet import Predictor, predict\n"
        "from SCFNet.prediction.command import main\n"
        "assert Predictor('small')(numpy.zeros((64, 64, 3), 'uint8')).shape == (64, 64)\n"
        f"print(all(module.MINE for module in ({', '.join(names)})), main())\n"
    )
    done = run_installed(ROOT, tmp_path, code, COFFEE)
    assert (done.returncode, done.stdout) == (0, "True 0\n"), done.stderr


def beside(folder, code, tool_or_code, *arguments):
    """Run a tool, or Python code, where `code` is what a package in `folder` holds."""
    (folder / "__init__.py").write_text(code)
    command = [sys.executable, "-c", tool_or_code]
    if tool_or_code.isidentifier():
        command = [sys.executable, str(ROOT / "tools" / f"{tool_or_code}.py"), *arguments]
    environment = {**os.environ, "PYTHONPATH": f"{folder.parent}{os.pathsep}{ROOT}"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


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
    (tmp_path / module).mkdir()
    done = beside(tmp_path / module, code, "predict", COFFEE)
    lines = done.stderr.strip().splitlines()[-1:]
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert re.search(rf"{module} (does not import|is not installed).*: pip install ", lines[0])
    done = beside(tmp_path / module, code, "from SCFNet import Predictor; Predictor('small')")
    assert done.returncode == 1 and re.search(
        rf"(ImportError|InputError): .*{module} (does not|is not).*pip install .*$", done.stderr
    )


@pytest.mark.parametrize(
    ("module", "package", "version"),
    [
        ("onnxruntime", "onnxruntime", "1.16.3"),
        ("onnxruntime", "onnxruntime-gpu", "1.18.1"),
        ("cv2", "opencv-python", "4.8.1.78"),
    ],
)
def test_what_ends_the_process_beside_numpy_2_is_not_imported(module, package, version, tmp_path):
    import numpy

    if int(numpy.__version__.partition(".")[0]) < 2:
        pytest.skip("numpy 1 is installed")
    from SCFNet.packages import BESIDE_NUMPY_2

    (tmp_path / module).mkdir()
    for name in BESIDE_NUMPY_2[module][0]:
        info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    line = rf"{version} does not run beside numpy 2.*: pip install --upgrade "
    done = beside(tmp_path / module, "import os; os.abort()", "predict", COFFEE)
    assert done.returncode == 2 and re.search(line, done.stderr.strip().splitlines()[-1])
    code = "from SCFNet import Predictor; Predictor('small')"
    done = beside(tmp_path / module, "import os; os.abort()", code)
    assert done.returncode == 1 and re.search(f"(ImportError|InputError): .*{line}", done.stderr)


def test_onnx_runtime_tells_nobody_unless_the_host_lets_it(tmp_path):
    """Its telemetry is read from the environment when it is imported."""
    code = "import os, SCFNet; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    for environment, expected in (({}, "1"), ({"ORT_DISABLE_TELEMETRY": "0"}, "0")):
        clean = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
        command = [sys.executable, "-c", code]
        found = subprocess.check_output(command, cwd=ROOT, env={**clean, **environment}, text=True)
        assert found.strip() == expected


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
