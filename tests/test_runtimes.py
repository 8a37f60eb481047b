"""Exported files in other runtimes: README's own lines in Python and JavaScript, and OpenVINO."""

import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from SCFNet import Predictor
from SCFNet.checkpoint import find_weights
from SCFNet.export import export
from SCFNet.variants import Variant
from tests.conftest import ROOT, readme_block
from tests.test_backends import needs_converter

PHOTO = ROOT / "tests" / "data" / "coffee.jpg"
NODE_MODULES = os.environ.get("NODE_MODULES")  # with onnxruntime-node and sharp


def check_mask(folder, command):
    """Run `command` beside photo.jpg; the mask that it writes is the Predictor's."""
    shutil.copy(PHOTO, folder / "photo.jpg")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    mask = cv2.imread(str(folder / "mask.png"), cv2.IMREAD_GRAYSCALE)
    expected = Predictor("accurate")(PHOTO) * 255
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


@pytest.mark.parametrize("name", ["small", "accurate"])
def test_openvino(name):
    openvino = pytest.importorskip("openvino")
    onnxruntime = pytest.importorskip("onnxruntime")
    file = str(find_weights(name).with_suffix(".onnx"))
    image = np.random.default_rng(0).normal(size=(1, 3, 352, 352)).astype(np.float32)
    expected = onnxruntime.InferenceSession(file).run(None, {"image": image})[0]
    model = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(model([image])[0], expected, atol=1e-3)
