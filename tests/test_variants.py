"""Variants of an exported file: photos in, rembg's input, 8-bit integers; each gives our maps."""

import hashlib
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from SCFNet.checkpoint import SHIPPED
from SCFNet.errors import ArgumentError
from SCFNet.maps import resize_map
from SCFNet.photos.reading import read_image
from SCFNet.photos.transform import RELEASE, Normalisation, network_input
from SCFNet.predictor import Predictor
from SCFNet.variants import Variant, make_variant, run_variant
from tests.conftest import CHELSEA, COFFEE, RELEASED, fault_of
from tests.test_backends import needs_converter

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

SMALL = SHIPPED["small"].with_suffix(".onnx")
CUP = read_image(COFFEE)
TOLERANCE = 1e-4


def variant_file(folder, variant, normalisation=RELEASE):
    path = folder / f"net-{variant.kind}.onnx"
    path.write_bytes(make_variant(SMALL.read_bytes(), variant, normalisation))
    return path


@pytest.mark.parametrize("shape", [(400, 600), (600, 400), (1, 1), (2, 900), (352, 352), (353, 35)])
def test_a_file_that_takes_photos_gives_the_predictors_maps(shape, tmp_path):
    image = cv2.resize(CUP, shape[::-1], interpolation=cv2.INTER_AREA)
    expected = Predictor(SMALL)(image)
    for fixed in ((), shape):
        session = ort.InferenceSession(str(variant_file(tmp_path, Variant("photo", fixed))))
        (source,), (target,) = session.get_inputs(), session.get_outputs()
        assert (source.name, source.type, target.name) == ("photo", "tensor(uint8)", "map")
        (found,) = session.run(None, {"photo": image})
        assert found.dtype == np.float32 and found.shape == shape
        np.testing.assert_allclose(found, expected, atol=TOLERANCE)


def test_a_photo_is_scaled_by_its_largest_value_where_the_network_wants_it(tmp_path):
    """As U2Net does."""
    dark, normalisation = CUP // 3, Normalisation((1, 2, 3), (40, 50, 60), True)
    model = make_variant(SMALL.read_bytes(), Variant("photo"), normalisation)
    batch = network_input([dark], 352, normalisation)
    maps = ort.InferenceSession(str(SMALL)).run(None, {"image": batch})[0]
    found = ort.InferenceSession(model).run(None, {"photo": dark})[0]
    np.testing.assert_allclose(found, resize_map(maps[0, 0], (400, 600)), atol=TOLERANCE)


def test_opencv_runs_a_file_that_takes_photos(tmp_path):
    """OpenCV 4 wants height and width fixed."""
    fixed = [(400, 600)] if cv2.__version__ < "5" else [(400, 600), ()]
    for shape in fixed:
        net = cv2.dnn.readNetFromONNX(str(variant_file(tmp_path, Variant("photo", shape))))
        net.setInput(CUP)
        found = net.forward().reshape(400, 600)
        np.testing.assert_allclose(found, Predictor(SMALL)(CUP), atol=TOLERANCE)


def as_rembg(session, image):
    """What rembg's u2net_custom makes of an image with a file: alpha in [0, 1]."""
    small = Image.fromarray(image).resize((320, 320), Image.LANCZOS)
    x = np.array(small) / max(np.max(small), 1e-6)
    x = (x - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    batch = x.transpose(2, 0, 1)[None].astype("float32")
    saliency = session.run(None, {session.get_inputs()[0].name: batch})[0][:, 0][0]
    scaled = (saliency - saliency.min()) / (saliency.max() - saliency.min())
    alpha = Image.fromarray((scaled * 255).astype("uint8"))
    return np.asarray(alpha.resize(image.shape[1::-1], Image.LANCZOS)) / 255


def test_rembg_gets_our_maps(tmp_path):
    path = variant_file(tmp_path, Variant("rembg"))
    session = ort.InferenceSession(str(path))
    assert session.get_inputs()[0].shape == [1, 3, 320, 320]
    found = as_rembg(session, CUP)
    checked = run_variant(path.read_bytes(), Variant("rembg"), CUP, network_input([CUP], 352))
    for alpha in (found, checked):  # by rembg, and as export checks it
        assert np.abs(alpha - Predictor(SMALL)(CUP)).mean() < 0.015
    noise = np.random.default_rng(0).standard_normal((1, 3, 320, 320)).astype("float32")
    net = cv2.dnn.readNetFromONNX(str(path))
    net.setInput(noise)
    np.testing.assert_allclose(net.forward(), session.run(None, {"rembg": noise})[0], atol=1e-3)


@pytest.mark.slow
def test_eight_bits_give_nearly_the_same_map_in_a_third_of_the_bytes(tmp_path):
    pytest.importorskip("ml_dtypes")
    photos = [COFFEE, CHELSEA]
    path = variant_file(tmp_path, Variant("int8", photos=photos))
    assert path.stat().st_size < 0.5 * SMALL.stat().st_size
    found = Predictor(path)(CUP)
    assert np.abs(found - Predictor(SMALL)(CUP)).mean() < 0.05
    kinds = {node.op_type for node in onnx.load(str(path)).graph.node}
    assert "QuantizeLinear" in kinds


@needs_converter
@pytest.mark.slow
def test_a_variant_is_written_beside_the_network(tmp_path, capsys):
    from SCFNet.export import export

    weights = shutil.copy(RELEASED, tmp_path / "net.pdparams")
    assert export(weights, size=96, variant=Variant("photo")) == [tmp_path / "net-photo.onnx"]
    assert "mean difference of this variant" in capsys.readouterr().out
    session = ort.InferenceSession(str(tmp_path / "net-photo.onnx"))
    expected = Predictor(weights, size=96)(CUP)
    np.testing.assert_allclose(session.run(None, {"photo": CUP})[0], expected, atol=TOLERANCE)
    meta = session.get_modelmeta().custom_metadata_map
    assert meta["file_sha256"] == hashlib.sha256(Path(weights).read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=r"net-photo\.onnx: takes photos"):
        Predictor(tmp_path / "net-photo.onnx")


def test_variants_go_with_onnx_alone(tmp_path):
    from SCFNet.export import export

    for wrong in ({"file_format": "paddle"}, {"dynamic_batch": True}):
        with pytest.raises(ArgumentError, match="rembg: goes with --format onnx, and without"):
            export(SHIPPED["small"], variant=Variant("rembg"), **wrong)
    for flags, fault in (
        (["--photo-input", "--rembg"], "not allowed with"),
        (["--photo-input", "400"], "takes no number, or height and width"),
        (["--photo-input", "0", "4"], "takes no number, or height and width"),
        (["--int8", tmp_path], "there are no image files"),
        (["--int8", tmp_path / "gone"], "no such folder"),
    ):
        assert fault in fault_of("export", "--weights", "small", *flags)
