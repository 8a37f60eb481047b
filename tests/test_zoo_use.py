"""Other networks as students, teachers and predictors, and their published PyTorch files."""

import json

import cv2
import numpy as np
import paddle
import pytest

from SCFNet import distill, engine
from SCFNet.checkpoint import load_checkpoint, load_net, load_network, save_weights
from SCFNet.errors import InputError
from SCFNet.export import export
from SCFNet.photos.reading import read_image
from SCFNet.photos.transform import Normalisation, network_input, normalise, photo_batch
from SCFNet.predictor import Predictor
from SCFNet.training import state, teacher
from SCFNet.zoo import ZOO, build_network
from tests.conftest import assert_same, distill_recipe, recipe, write_pairs
from tests.fill_weights import fill_zoo
from tests.test_backends import needs_converter
from tests.test_torch_files import write as write_torch

MAPS = {"U2Net": 7, "U2Netp": 7, "SAMNet": 5, "GCPANet": 4, "CTDNet18": 5, "CTDNet50": 5}
EVERY = [pytest.param(name, marks=[] if name == "SAMNet" else pytest.mark.slow) for name in ZOO]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Gives the path of a checkpoint of a network, with the weights of its reference."""
    folder = tmp_path_factory.mktemp("zoo")

    def file_of(name):
        path = folder / f"{name}.pdparams"
        if not path.exists():
            net = build_network(name)
            if name in ZOO:
                fill_zoo(net)
            save_weights(net, path)
        return path

    return file_of


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of sixteen pairs."""
    return write_pairs(tmp_path_factory.mktemp("photos"), count=16)


@pytest.mark.parametrize("name", EVERY)
def test_a_student_learns_in_two_steps(name, photos, teacher_file, tmp_path):
    knobs = {"model": name, "data": photos, "batch_size": 8, "epochs": 1, "sizes": 64}
    assert distill.distill(distill_recipe(**knobs, teacher=teacher_file, output=tmp_path)) == 0
    record = json.loads((tmp_path / state.LOG).read_text())
    assert record["step"] == 2 and len(record["maps"]) == MAPS[name]
    halved = sum(loss / 2**i for i, loss in enumerate(record["maps"]))
    assert record["loss"] == pytest.approx(halved, rel=1e-5)
    assert load_network(tmp_path / state.LAST)[0] == name


@pytest.mark.slow
def test_a_teacher_is_trained_and_goes_on(photos, tmp_path):
    knobs = {"model": "CTDNet18", "data": photos, "batch_size": 8, "loss": "bce+sp", "sizes": 64}
    assert engine.train(recipe(**knobs, output=tmp_path, epochs=1)) == 0
    assert engine.train(recipe(**knobs, output=tmp_path, epochs=2, resume="auto")) == 0
    assert [json.loads(line)["step"] for line in (tmp_path / state.LOG).open()] == [2, 4]
    with pytest.raises(InputError, match=r"CTDNet18, not (of )?U2Netp"):
        engine.train(recipe(model="U2Netp", data=photos, output=tmp_path, resume="auto"))


@pytest.mark.parametrize("name", EVERY)
def test_a_teacher_gets_its_own_size_and_normalisation(name, files, photos):
    path = files(name)
    found = teacher.open_teacher(distill_recipe(teacher=path, teacher_size=96))
    photo = read_image(photos / "image" / "1.jpg")
    net = load_net(path)
    with paddle.no_grad():
        batch = network_input([photo], 96, net.normalisation)
        expected = net.predict(paddle.to_tensor(batch)).numpy()
    images = paddle.to_tensor(photo_batch([photo], 96))
    np.testing.assert_allclose(found.run(images).numpy(), expected, atol=1e-4)


def test_arrays_and_tensors_are_normalised_alike():
    photo = np.random.default_rng(0).integers(0, 90, (64, 64, 3), "uint8")  # a dark one
    batch = photo_batch([photo, photo // 2], 64)
    for by_max in (False, True):
        wanted = Normalisation((1, 2, 3), (4, 5, 6), by_max)
        expected = np.stack([p * np.float32(255 / p.max() if by_max else 1) for p in batch])
        expected = (expected - np.c_[[1, 2, 3]][:, None]) / np.c_[[4, 5, 6]][:, None]
        np.testing.assert_allclose(normalise(batch, wanted), expected, atol=1e-4)
        tensor = normalise(paddle.to_tensor(batch), wanted)
        np.testing.assert_allclose(tensor.numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["archive", pytest.param("legacy", marks=pytest.mark.slow)])
def test_a_published_file_predicts(kind, files, tmp_path):
    """As its authors feed it, but smaller: by the photo's largest value, then normalised."""
    whole = load_checkpoint(files("U2Netp"))
    published = {
        f"module.{key}".replace("._mean", ".running_mean").replace("._variance", ".running_var"): v
        for key, v in whole.items()
    }
    path = write_torch(tmp_path / "u2netp.pth", published, kind)
    photo = np.random.default_rng(0).integers(0, 100, (90, 120, 3), "uint8")
    x = cv2.resize(photo.astype("float32"), (64, 64))
    x = (x / x.max() - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    with paddle.no_grad():
        net = load_net(files("U2Netp"))
        logits = net(paddle.to_tensor(x.transpose(2, 0, 1)[None].astype("float32")))[0]
    expected = cv2.resize(1 / (1 + np.exp(-logits.numpy()[0, 0])), (120, 90))
    predictor = Predictor(path, device="cpu", size=64)
    np.testing.assert_allclose(predictor(photo), expected, atol=1e-4)
    assert net.input_size == 320

    assert export(path, "pdparams") == [tmp_path / "u2netp.pdparams"]
    assert_same(load_checkpoint(tmp_path / "u2netp.pdparams"), whole)


def test_a_file_of_another_network_is_refused_with_both_names(files):
    with pytest.raises(InputError, match=r"is of SAMNet, not of U2Netp"):
        Predictor(files("SAMNet"), backbone="U2Netp", device="cpu")


def test_what_a_network_lacks_is_said():
    with pytest.raises(InputError, match=r"U2Net.* has no ImageNet weights.*none"):
        state.new_run(recipe(model="U2Netp", pretrained="imagenet"))
    with pytest.raises(InputError, match=r"decoder.*SAMNet has a decoder of its own"):
        recipe(model="SAMNet", decoder="base")


@pytest.mark.parametrize(
    ("name", "file"),
    [("CTDNet18", "resnet18"), pytest.param("GCPANet", "resnet50", marks=pytest.mark.slow)],
)
def test_imagenet_files_are_paddles_resnets(name, file, tmp_path, monkeypatch):
    resnet = getattr(paddle.vision.models, file)()
    save_weights(resnet, tmp_path / f"{file}.pdparams")
    asked = []

    def fetch(url):
        asked.append(url)
        return str(tmp_path / url.rpartition("/")[2])

    monkeypatch.setattr(paddle.utils.download, "get_weights_path_from_url", fetch)
    net = state.new_run(recipe(model=name, pretrained="imagenet")).net
    assert len(asked) == 1
    for key, value in resnet.state_dict().items():
        if not key.startswith("fc."):
            np.testing.assert_array_equal(net.bkbone.state_dict()[key].numpy(), value.numpy())


@needs_converter
@pytest.mark.slow
@pytest.mark.parametrize("name", [*ZOO, "EL0"])
def test_exported_networks_are_paddles(name, files, tmp_path):
    """The export compares the maps of a photo; here those of another size of photo too."""
    path = files(name)
    exported = export(path, output=tmp_path / f"{name}.onnx", size=96, dynamic_batch=True)[0]
    by_onnx, by_paddle = Predictor(exported), Predictor(path, size=96, engine="paddle")
    photo = np.random.default_rng(0).integers(0, 200, (50, 70, 3), "uint8")
    assert by_onnx.normalisation.by_max == by_paddle.normalisation.by_max
    for one, other in zip(by_onnx([photo, photo[::-1]]), by_paddle([photo, photo[::-1]])):
        np.testing.assert_allclose(one, other, atol=1e-4)
