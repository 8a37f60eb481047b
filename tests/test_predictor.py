"""The Predictor: the release's map, batches, sizes, and what it refuses."""

import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import paddle
import pytest
from PIL import Image

import SCFNet.predictor
from SCFNet.checkpoint import WEIGHTS as WEIGHTS_FOLDER
from SCFNet.checkpoint import find_weights
from SCFNet.errors import InputError
from SCFNet.photos.reading import read_image
from SCFNet.photos.transform import MEAN, STD
from SCFNet.predictor import Predictor, network_input, predict, resize_map
from tests.conftest import CHELSEA, COFFEE, DATA, RELEASED
from tests.conftest import predict as run_predict

ONNX = find_weights("small").with_suffix(".onnx")
EXPECTED = np.load(DATA / "predict_chelsea.npz")["mask"]  # the release's, [300, 451, 1] in 0..255


@pytest.fixture(scope="module")
def cat():
    return read_image(CHELSEA)


def test_the_map_is_the_releases(predictor):
    image, mask, product = predictor.predict(CHELSEA)
    assert mask.shape == (300, 451, 1) and mask.dtype == np.float32
    assert np.abs(mask - EXPECTED).max() < 0.05
    assert image.dtype == np.uint8 and product.dtype == np.float32
    np.testing.assert_allclose(product, image * (mask / 255), rtol=1e-5)


@pytest.mark.parametrize("weights", [RELEASED, ONNX])
def test_a_list_is_one_batch_and_equals_one_by_one(weights, cat):
    predictor = Predictor(weights, device="cpu")
    images = [cat, cat[:100, ::2], cat[::3, :50], cat[:1, :1]]
    maps = predictor(images)
    for image, saliency in zip(images, maps):
        assert saliency.shape == image.shape[:2] and saliency.dtype == np.float32
        assert saliency.min() >= 0 and saliency.max() <= 1
        np.testing.assert_allclose(saliency, predictor(image), atol=1e-5)


def test_the_notebooks_cells_run_unchanged(cat):
    from SCFNet.net import SCFNet

    net = SCFNet(1, "M3_0.5")
    net.load_dict(paddle.load(str(RELEASED)))
    net.eval()
    logits = net(paddle.to_tensor(network_input([cat], 352)))[0]
    mask = paddle.nn.functional.interpolate(
        paddle.nn.functional.sigmoid(logits), cat.shape[:2], mode="bilinear"
    )
    assert np.abs(mask.numpy()[0, 0] * 255 - EXPECTED[..., 0]).max() < 0.05


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


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 4, 3), "float32"),
        np.zeros((4, 4), "uint8"),
        np.zeros((0, 4, 3), "uint8"),
        np.zeros((2, 4, 4, 3), "uint8"),
        (CHELSEA).read_bytes(),
        None,
        7,
        {"image": 1},
        paddle.zeros([4, 4, 3]),
        Image.new("I;16", (4, 4)),
        Image.new("F", (4, 4)),
        [],
    ],
    ids=lambda wrong: type(wrong).__name__,
)
def test_what_is_no_image_is_a_line_that_says_what_is(predictor, wrong):
    for given in (wrong, [wrong]):
        for predict_it in (predictor, predictor.cutout):
            with pytest.raises(ValueError, match=r"an image is RGB uint8 \[H, W, 3\], a path or"):
                predict_it(given)


def test_paths_and_pil_images_are_images(predictor, cat, tmp_path):
    expected = predictor(cat)
    path = CHELSEA
    for given in (path, str(path), Image.open(path), Image.open(path).convert("RGBA")):
        np.testing.assert_array_equal(predictor(given), expected)
    for found in predictor([path, cat, Image.open(path)]):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(path).save(turned, exif=exif)
    assert predictor(turned).shape == (451, 300)
    assert predictor(Image.open(turned)).shape == (300, 451)  # as it lies in memory
    with pytest.raises(InputError, match=r"gone\.png"):
        predictor(tmp_path / "gone.png")
    turned.write_bytes(turned.read_bytes()[:2000])
    with pytest.raises(ValueError, match="a PIL image that cannot be converted"):
        predictor(Image.open(turned))


def test_a_cut_out_is_what_predict_py_writes(tmp_path):
    transparent = tmp_path / "half.png"
    half = Image.open(COFFEE).convert("RGBA")
    half.paste((0, 0, 0, 0), (0, 0, 300, 400))
    half.save(transparent)
    sources = (COFFEE, transparent)
    flags = "--weights", "small", "--save", "cutout", "--output", tmp_path / "o"
    assert run_predict(*sources, *flags).returncode == 0
    predictor = Predictor("small")
    for source in sources:
        written = np.array(Image.open(tmp_path / "o" / f"{source.stem}-cutout.png"))
        found = predictor.cutout(source)
        assert found.dtype == np.uint8 and found.shape == (400, 600, 4)
        np.testing.assert_array_equal(found, written)
    assert not found[:, :300, 3].any() and found[..., 3].any()


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        *[({"device": device}, "device: .* none of auto") for device in (None, 0, "GPU", "tpu")],
        *[({"size": size}, "size: must be a multiple of 32") for size in ("352", 352.0, -32, 100)],
        *[({"threads": threads}, "threads: must be a number") for threads in (-1, "2", None)],
        *[({"weights": weights}, "weights: must be a name") for weights in (5, b"small", "")],
        *[({"engine": engine}, "unknown engine") for engine in (None, "torch")],
        *[({"backbone": backbone}, "is of M3_0.5, not of") for backbone in (5, "R50")],
        ({"weights": ONNX, "engine": "paddle"}, "engine: paddle takes a .pdparams"),
        ({"weights": ONNX, "device": "gpu"}, "runs on a GPU by pip install onnxruntime-gpu"),
        ({"weights": ONNX, "size": 224}, "is of size 352; renew it: .* --size 224"),
        ({"weights": "gone.pdparams", "engine": "onnx"}, r"gone\.pdparams: cannot be read"),
        *[({"weights": where}, rf"^{where}: .*weights/README\.md") for where in ("gone", "tests")],
    ],
)
def test_wrong_arguments_are_value_errors_of_one_line(arguments, fault):
    with pytest.raises(ValueError, match=fault) as caught:
        Predictor(**{"weights": "small", **arguments})
    assert str(caught.value).isprintable()


def test_a_predictor_pickles(predictor, cat, monkeypatch, tmp_path):
    pickled = pickle.dumps(predictor)
    monkeypatch.chdir(tmp_path)
    again = pickle.loads(pickled)
    assert again.engine == predictor.engine
    np.testing.assert_array_equal(again(cat), predictor(cat))


def test_the_default_checkpoint_is_said(capfd, monkeypatch):
    monkeypatch.setattr(SCFNet.predictor, "DEFAULT_WEIGHTS", RELEASED)
    SCFNet.predictor._default_predictor.cache_clear()
    mask = predict(CHELSEA)[1]
    SCFNet.predictor._default_predictor.cache_clear()
    assert str(RELEASED) in capfd.readouterr().err
    assert np.abs(mask - EXPECTED).max() < 0.05


def test_shipped_checkpoints_have_names():
    assert find_weights("small") == WEIGHTS_FOLDER / "KD-SCFNet-DUTS.pdparams"
    assert find_weights("accurate") == WEIGHTS_FOLDER / "SCFNet-EL-DUTS.pdparams"
    assert find_weights("./small") == Path("small") and find_weights(RELEASED) == RELEASED


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
