"""The Predictor: the release's map, batches, sizes, and what it refuses."""

import tracemalloc
from pathlib import Path

import numpy as np
import paddle
import pytest

import SCFNet.predictor
from SCFNet.checkpoint import WEIGHTS as WEIGHTS_FOLDER
from SCFNet.checkpoint import find_weights
from SCFNet.errors import InputError
from SCFNet.photos.reading import read_image
from SCFNet.photos.transform import MEAN, STD
from SCFNet.predictor import Predictor, network_input, predict, resize_map

DATA = Path(__file__).parent / "data"
WEIGHTS = DATA / "release_M3_0.5.pdparams"


@pytest.fixture(scope="module")
def predictor():
    return Predictor(WEIGHTS, device="cpu")


@pytest.fixture
def cat():
    return read_image(DATA / "chelsea.png")


def test_the_map_is_the_releases(predictor):
    image, mask, product = predictor.predict(DATA / "chelsea.png")
    expected = np.load(DATA / "predict_chelsea.npz")["mask"]
    assert mask.shape == expected.shape == (300, 451, 1) and mask.dtype == np.float32
    assert np.abs(mask - expected).max() < 0.05
    assert image.dtype == np.uint8 and product.dtype == np.float32
    np.testing.assert_allclose(product, image * (mask / 255), rtol=1e-5)


def test_a_list_is_one_batch_and_equals_one_by_one(predictor, cat):
    images = [cat, cat[:100, ::2], cat[::3, :50]]
    maps = predictor(images)
    for image, saliency in zip(images, maps):
        assert saliency.shape == image.shape[:2] and saliency.dtype == np.float32
        assert saliency.min() >= 0 and saliency.max() <= 1
        np.testing.assert_allclose(saliency, predictor(image), atol=1e-5)


def test_the_notebooks_cells_run_unchanged(cat):
    from SCFNet.net import SCFNet

    net = SCFNet(1, "M3_0.5")
    net.load_dict(paddle.load(str(WEIGHTS)))
    net.eval()
    logits = net(paddle.to_tensor(network_input([cat], 352)))[0]
    mask = paddle.nn.functional.interpolate(
        paddle.nn.functional.sigmoid(logits), cat.shape[:2], mode="bilinear"
    )
    expected = np.load(DATA / "predict_chelsea.npz")["mask"][..., 0]
    assert np.abs(mask.numpy()[0, 0] * 255 - expected).max() < 0.05


@pytest.mark.parametrize("shape", [(300, 451), (2, 900), (900, 2), (352, 352), (900, 100)])
def test_resizing_is_paddles(shape):
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (*shape, 3), "uint8")
    saliency = random.random((64, 48), "float32")

    def paddles(array, size, align_corners):
        tensor = paddle.to_tensor(array[None])
        return paddle.nn.functional.interpolate(
            tensor, size, mode="bilinear", align_corners=align_corners
        ).numpy()[0]

    normalised = ((image.astype("float32") - MEAN) / STD).transpose(2, 0, 1)
    expected = paddles(normalised, (352, 352), False)
    np.testing.assert_allclose(network_input([image], 352)[0], expected, atol=5e-4)
    for align_corners in (False, True):
        expected = paddles(saliency[None], shape, align_corners)[0]
        np.testing.assert_allclose(resize_map(saliency, shape, align_corners), expected, atol=1e-4)


def test_one_pixel_has_a_map(predictor):
    for align_corners in (False, True):
        assert predictor(np.zeros((1, 1, 3), "uint8"), align_corners).shape == (1, 1)


def test_size_changes_the_input(cat):
    small = Predictor(WEIGHTS, device="cpu", size=224)
    assert small.size == 224 and small(cat).shape == (300, 451)
    with pytest.raises(InputError, match=r"size: must be a multiple of 32.* not 100"):
        Predictor(WEIGHTS, size=100)


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((4, 4, 3), "float32"), np.zeros((4, 4), "uint8"), np.zeros((0, 4, 3), "uint8")],
)
def test_an_array_that_is_no_photo_is_refused(predictor, wrong):
    with pytest.raises(ValueError, match="RGB uint8"):
        predictor(wrong)


def test_weights_that_are_missing_or_of_another_network_are_told(tmp_path):
    with pytest.raises(InputError, match=r"none\.pdparams"):
        Predictor(tmp_path / "none.pdparams")
    with pytest.raises(InputError, match=r"is of M3_0\.5, not of R50"):
        Predictor(WEIGHTS, backbone="R50")


def test_the_default_checkpoint_is_said(capfd, monkeypatch):
    monkeypatch.setattr(SCFNet.predictor, "DEFAULT_WEIGHTS", WEIGHTS)
    SCFNet.predictor._default_predictor.cache_clear()
    mask = predict(DATA / "chelsea.png")[1]
    SCFNet.predictor._default_predictor.cache_clear()
    assert str(WEIGHTS) in capfd.readouterr().err
    assert np.abs(mask - np.load(DATA / "predict_chelsea.npz")["mask"]).max() < 0.05


def test_the_default_checkpoint_is_there():
    assert SCFNet.predictor.DEFAULT_WEIGHTS.is_file()


def test_shipped_checkpoints_have_names():
    assert find_weights("small") == WEIGHTS_FOLDER / "KD-SCFNet-DUTS.pdparams"
    assert find_weights("accurate") == WEIGHTS_FOLDER / "SCFNet-EL-DUTS.pdparams"
    assert find_weights("./small") == Path("small") and find_weights(WEIGHTS) == WEIGHTS


def test_a_very_long_photo_needs_little_memory():
    saliency = np.random.default_rng(0).random((352, 352), "float32")
    tracemalloc.start()
    long = resize_map(saliency, (2_000_000, 1), align_corners=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert long.shape == (2_000_000, 1) and peak < 300e6
    assert (long[0, 0], long[-1, 0]) == (saliency[0, 0], saliency[-1, 0])


def test_all_cores_change_no_map(cat):
    alone = Predictor(threads=0)
    assert alone.engine == "onnx"
    np.testing.assert_allclose(alone(cat), Predictor()(cat), atol=1e-5)
