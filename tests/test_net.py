"""The network against the release's: keys, shapes, sizes and forwards of every backbone."""

import json
import warnings
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from backbones import BACKBONES, MobileNetV3, ResNet, SwinT, build_backbone
from backbones.SwinT import DropPath, SwinBlock, SwinTransformer, _attention_mask
from SCFNet.net import SCFNet
from SCFNet.scoring.cost import cost
from SCFNet.zoo import detect_network
from tests.fill_weights import fill, noise

import paddle  # isort: skip

DATA = Path(__file__).parent / "data"


@pytest.mark.parametrize(
    ("backbone", "inputs", "tolerance", "parameters", "flops", "maccs"),
    [
        ("M3_0.5", ["2x352x352_seed0", "1x256x320_seed1"], 1e-4, 800_154, 253_194_747, 239_120_640),
        ("R50", ["1x224x224_seed0"], 1e-3, 26_148_420, 13_148_501_421, 13_087_212_864),
        pytest.param(
            *("ST", ["1x384x384_seed0"], 1e-3, 88_158_980, 46_747_600_848, 46_738_805_760),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_keys_maps_and_size_are_the_releases(backbone, inputs, tolerance, parameters, flops, maccs):
    net = SCFNet(backbone=backbone)
    state = net.state_dict()
    expected = json.loads((DATA / f"state_dict_{backbone}.json").read_text())
    found = {k: [str(v.dtype).rsplit(".", 1)[-1], *v.shape] for k, v in state.items()}
    assert list(found) == list(expected)
    assert found == expected
    assert detect_network(state) == backbone

    fill(net)
    net.eval()
    references = np.load(DATA / "forward.npz")  # every fourth row and column
    for name in inputs:
        x = noise(name)
        with paddle.no_grad():
            maps = net(paddle.to_tensor(x))
        for level, one in zip((2, 3, 4, 5), maps):
            assert list(one.shape) == [len(x), 1, *x.shape[2:]]
            wanted = references[f"{backbone}_{name}_m{level}"]
            assert np.abs(one.numpy()[..., ::4, ::4] - wanted).max() < tolerance

    assert net.input_size == (384 if backbone == "ST" else 352)
    assert cost(net) == {"params": parameters, "flops": flops, "maccs": maccs}
    assert cost(net)["flops"] == flops and list(net.state_dict()) == list(expected)  # no trace


def test_the_three_ways_to_construct():
    for net in (SCFNet(1, "EL0"), SCFNet(SimpleNamespace(model_type="EL0"))):
        assert net.model_type == detect_network(net.state_dict()) == "EL0"
    assert SCFNet().model_type == "M3_0.5"


def test_the_releases_way_says_once_that_it_starts_from_nothing():
    cfg = SimpleNamespace(model_type="M3_0.5")
    net = SCFNet(cfg)
    with pytest.warns(UserWarning, match="random weights, not from ImageNet"):
        net.train()
    loaded = SCFNet(cfg)
    loaded.load_dict(net.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for silent in (net, loaded, SCFNet(1, "M3_0.5")):
            silent.train()


def test_constructing_reads_no_file(monkeypatch):
    opened = []
    monkeypatch.setattr("builtins.open", lambda *args: opened.append(args))
    SCFNet(backbone="M3_0.5")
    assert not opened


def test_unknown_names_are_quoted_with_the_choices():
    with pytest.raises(ValueError, match=r"'R18'.*M3_0\.5, R50"):
        SCFNet(backbone="R18")
    with pytest.raises(ValueError, match=r"'fpn'.*scfm, base"):
        SCFNet(decoder="fpn")


@pytest.mark.parametrize(
    ("backbone", "decoder"),
    [("M3_0.5", "scfm"), ("M3_0.5", "base"), ("R34", "scfm"), ("V16", "scfm")],
)
def test_every_model_trains(backbone, decoder):
    net = SCFNet(backbone=backbone, decoder=decoder)
    assert detect_network(net.state_dict()) == backbone
    net.train()
    maps = net(paddle.rand([2, 3, 64, 96]))
    assert [list(m.shape) for m in maps] == [[2, 1, 64, 96]] * (4 if decoder == "scfm" else 1)
    paddle.add_n([m.mean() for m in maps]).backward()
    silent = [name for name, p in net.named_parameters() if p.trainable and p.grad is None]
    assert silent == []


@pytest.mark.parametrize(
    ("backbone", "builder"),
    [
        ("R34", "resnet34"),
        pytest.param("R50", "resnet50", marks=pytest.mark.slow),
        pytest.param("V16", "vgg16", marks=pytest.mark.slow),
    ],
)
def test_imagenet_keys_are_paddles(backbone, builder):
    theirs = getattr(paddle.vision.models, builder)().state_dict()
    ours = build_backbone(backbone).state_dict()
    assert {k: list(v.shape) for k, v in ours.items()} == {
        k: list(v.shape) for k, v in theirs.items() if not k.startswith(("fc.", "classifier."))
    }


def test_the_releases_names_of_backbones_are_kept():
    release = {
        "M3_0.5": MobileNetV3.MobileNetV3_0_5,
        "R34": ResNet.ResNet34,
        "R50": ResNet.ResNet50,
        "ST": SwinT.SwinTransformer_B,
    }
    for name, build in release.items():
        assert BACKBONES[name] == (build.__module__, build.__name__)


def test_base_is_one_convolution_of_the_concatenated_levels():
    """Parameters and map by hand: 4 levels of 16 channels, a 3x3 kernel, a bias."""
    net = SCFNet(backbone="M3_0.5", decoder="base")
    net.eval()
    shared = sum(p.size for layer in (net.bkbone, net.mp) for p in layer.parameters())
    assert sum(p.size for p in net.parameters()) == shared + 4 * 16 * 9 + 1
    x = paddle.rand([1, 3, 64, 64])
    levels = [level.numpy() for level in net.mp(net.bkbone(x))]  # at strides 4, 8, 16 and 32
    large = [cv2.resize(f[0].transpose(1, 2, 0), (16, 16)).transpose(2, 0, 1) for f in levels]
    padded = np.pad(np.concatenate(large), ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    logits = np.einsum("chwij,cij->hw", windows, net.linear2.weight.numpy()[0])
    logits += net.linear2.bias.numpy()
    (m2,) = net(x)
    np.testing.assert_allclose(m2.numpy()[0, 0], cv2.resize(logits, (64, 64)), atol=1e-4)


@pytest.mark.slow
def test_swin_drops_paths_as_the_release_trains_it():
    drops = [
        layer.rate for layer in SwinT.SwinTransformer_B().sublayers() if isinstance(layer, DropPath)
    ]
    np.testing.assert_allclose(drops, np.linspace(0, 0.5, 24))


def test_swin_at_other_sizes_ignores_the_padding_it_adds():
    """At 12x12 tokens per window, 96 px is 24 tokens (no padding), 64 px is 16 (padded to 24)."""
    paddle.seed(0)
    net = SwinTransformer(384, 16, (2, 2), (2, 2), 12, 0.0)
    net.eval()
    assert [list(f.shape) for f in net(paddle.rand([1, 3, 64, 160]))] == [
        [1, 16, 16, 40],
        [1, 32, 8, 20],
    ]
    with pytest.raises(ValueError, match="multiples of 32, not 64x100"):
        net(paddle.rand([1, 3, 64, 100]))

    block = SwinBlock(16, (24, 24), 12, 2, shifted=False, drop=0.0)
    block.eval()
    x = paddle.rand([1, 5 * 7, 16])  # smaller than one window: attention over just these 35
    whole = block(x, (5, 7))
    block.masks[(5, 7)] = None  # with the padding attended to, the result must differ
    assert float((block(x, (5, 7)) - whole).abs().max()) > 1e-6


def test_swin_mask_is_within_regions():
    mask = _attention_mask((24, 24), 12, (6, 6))
    assert mask.shape == (4, 144, 144)
    assert not mask[0].any()  # the first window lies inside one region
    assert sorted(np.unique(mask[3])) == [-100.0, 0.0]
    assert (np.diagonal(mask, axis1=1, axis2=2) == 0).all()
