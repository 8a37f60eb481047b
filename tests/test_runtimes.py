"""Exported files in other runtimes: README's own lines in Python and JavaScript, OpenVINO, web."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from SCFNet import Predictor
from SCFNet.checkpoint import SHIPPED, find_weights
from SCFNet.export import export
from SCFNet.photos.reading import read_image
from SCFNet.photos.transform import RELEASE
from SCFNet.variants import Variant, make_variant
from tests.conftest import COFFEE, ROOT, readme_block
from tests.test_backends import needs_converter

onnxruntime = pytest.importorskip("onnxruntime")

NODE_MODULES = os.environ.get("NODE_MODULES")  # with onnxruntime-node, -web, and sharp
WEB = """
import { readFile, writeFile } from 'node:fs/promises'
import ort from 'onnxruntime-web'

ort.env.wasm.numThreads = 1
const [file, type, ...shape] = process.argv.slice(2)
const { buffer } = Uint8Array.from(await readFile('input'))
const data = type === 'uint8' ? new Uint8Array(buffer) : new Float32Array(buffer)
const session = await ort.InferenceSession.create(await readFile(file))
const [input, output] = [session.inputNames[0], session.outputNames[0]]
const found = await session.run({ [input]: new ort.Tensor(type, data, shape.map(Number)) })
await writeFile('output', found[output].data)
console.log(found[output].dims.join(' '))
"""


def check_mask(folder, command):
    """Run `command` beside photo.jpg; the mask that it writes is the Predictor's."""
    shutil.copy(COFFEE, folder / "photo.jpg")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    mask = cv2.imread(str(folder / "mask.png"), cv2.IMREAD_GRAYSCALE)
    expected = Predictor("accurate")(COFFEE) * 255
    assert mask.shape == expected.shape and np.abs(mask - expected).mean() < 0.1


def test_python(tmp_path):
    text = readme_block("import onnxruntime", "python")
    (tmp_path / "weights").symlink_to(ROOT / "weights")
    check_mask(tmp_path, [sys.executable, "-c", text])


@needs_converter
@pytest.mark.slow
def test_javascript(tmp_path):
    node = shutil.which("node")
    if not node or not NODE_MODULES:
        pytest.skip("needs Node, and a folder with onnxruntime-node and sharp as NODE_MODULES")
    export(find_weights("accurate"), "onnx", tmp_path / "photo", variant=Variant("photo"))
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    (tmp_path / "mask.mjs").write_text(readme_block("from 'onnxruntime-node'", "js"))
    check_mask(tmp_path, [node, "mask.mjs"])


def in_openvino(file, array, folder):
    openvino = pytest.importorskip("openvino")
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    return openvino.Core().compile_model(str(file), "CPU", options)([array])[0]


def in_web(file, array, folder):
    """By onnxruntime-web, as WebAssembly, which Node runs as browsers do."""
    node = shutil.which("node")
    if not node or not NODE_MODULES or not Path(NODE_MODULES, "onnxruntime-web").is_dir():
        pytest.skip("needs Node, and a folder with onnxruntime-web as NODE_MODULES")
    (folder / "node_modules").symlink_to(NODE_MODULES)
    (folder / "run.mjs").write_text(WEB)
    array.tofile(folder / "input")
    command = [node, "run.mjs", str(file), str(array.dtype), *map(str, array.shape)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shape = [int(side) for side in done.stdout.split()]
    return np.fromfile(folder / "output", np.float32).reshape(shape)


RUNTIMES = [in_openvino, pytest.param(in_web, marks=pytest.mark.slow)]


@pytest.mark.parametrize("run", RUNTIMES)
@pytest.mark.parametrize("name", ["small", "accurate"])
def test_other_runtimes_give_the_maps_of_onnx_runtime(name, run, tmp_path):
    file = SHIPPED[name].with_suffix(".onnx")
    image = np.random.default_rng(0).normal(size=(1, 3, 352, 352)).astype(np.float32)
    expected = onnxruntime.InferenceSession(str(file)).run(None, {"image": image})[0]
    np.testing.assert_allclose(run(file, image, tmp_path), expected, atol=1e-3)


@pytest.mark.parametrize("run", RUNTIMES)
@pytest.mark.parametrize("name", ["small", "accurate"])
def test_other_runtimes_give_the_predictors_map_of_a_photo(name, run, tmp_path):
    """The file takes photos of any size."""
    pytest.importorskip("onnx")
    exported, file = SHIPPED[name].with_suffix(".onnx"), tmp_path / "photo.onnx"
    file.write_bytes(make_variant(exported.read_bytes(), Variant("photo"), RELEASE))
    image = read_image(COFFEE)
    found = run(file, image, tmp_path)
    np.testing.assert_allclose(found, Predictor(exported)(image), atol=1e-4)
