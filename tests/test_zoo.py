"""Other networks: keys, counts, maps and gradients of the originals, and what all have in common.

The reference values are of the original PyTorch sources, with the weights of `fill_zoo`.
"""

import json
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle.nn import functional as F

from SCFNet.errors import InputError
from SCFNet.photos.transform import IMAGENET, RELEASE
from SCFNet.scoring.cost import cost
from SCFNet.zoo import NETWORKS, SIGNATURES, ZOO, build_network, detect_network
from SCFNet.zoo.ctdnet import CTDNet
from SCFNet.zoo.gcpanet import GCPANet
from SCFNet.zoo.samnet import SAMNet
from SCFNet.zoo.u2net import U2Net
from tests.fill_weights import fill_zoo, noise

DATA = Path(__file__).parent / "data"
SMALL = ("U2Netp", "SAMNet", "CTDNet18")
COUNTS = {  # parameters, and billions of FLOPs as far as the papers have them
    "U2Netp": (1_131_181, 24.13),
    "U2Net": (44_009_869, None),
    "SAMNet": (1_330_129, 0.600),
    "GCPANet": (67_056_196, 65.72),
    "CTDNet18": (11_825_368, None),
    "CTDNet50": (24_636_120, 12.35),
}
EVERY = [pytest.param(name, marks=[] if name in SMALL else pytest.mark.slow) for name in ZOO]


def every_map(net, x):
    """The maps as the references list them: SAMNet's as probabilities, CTDNet's with the edge."""
    if net.model_type.startswith("CTDNet"):
        maps, edge = net.forward_with_edge(x)
        return [*maps, edge]
    return [F.sigmoid(m) if net.model_type == "SAMNet" else m for m in net(x)]


@pytest.mark.parametrize("name", EVERY)
def test_keys_counts_and_maps_are_the_originals_at_any_size_and_in_a_batch(name):
    net = build_network(name)
    state = net.state_dict()
    found = [f"{key} {'x'.join(map(str, value.shape))}" for key, value in state.items()]
    assert found == np.load(DATA / "zoo_keys.npz")[name].tolist()
    assert detect_network(state) == name

    counted, (params, giga_flops) = cost(net), COUNTS[name]
    assert counted["params"] == params
    if giga_flops:
        precision = 5e-3 if giga_flops > 1 else 5e-4
        assert counted["flops"] / 1e9 == pytest.approx(giga_flops, abs=precision)
    assert 0.9 * counted["flops"] < counted["maccs"] < counted["flops"]

    fill_zoo(net)
    net.eval()
    with paddle.no_grad():
        for shape in ("1x96x128_seed0", "1x75x101_seed1"):
            x = noise(shape)
            maps = every_map(net, paddle.to_tensor(x))
            expected = np.load(DATA / "zoo_forward.npz")[f"{name}_{shape}"]  # every fifth pixel
            assert len(maps) == len(expected)
            for one, wanted in zip(maps, expected):
                assert list(one.shape) == [len(x), 1, *x.shape[2:]]
                assert np.abs(one.numpy()[0, 0, ::5, ::5] - wanted).max() < 5e-5
        for size in ((33, 47), (90, 7), (1, 1)):
            batch = paddle.rand([2, 3, *size])
            both = net.predict(batch).numpy()
            assert both.shape == (2, 1, *size)
            assert np.isfinite(both).all() and both.min() >= 0 and both.max() <= 1
            np.testing.assert_allclose(net.predict(batch[1:]).numpy(), both[1:], atol=1e-5)


@pytest.fixture
def double():
    """Networks are built, and compute, in float64."""
    paddle.set_default_dtype("float64")
    yield
    paddle.set_default_dtype("float32")


def batch_of_ellipses():
    """Images [4, 3, 96, 96] and masks [4, 1, 96, 96] of the reference."""
    images = np.random.default_rng(5).standard_normal((4, 3, 96, 96)).astype("float32")
    y, x = np.mgrid[:96, :96]
    ellipses = [(y - 38 - 4 * i) ** 2 / 900 + (x - 45) ** 2 / (500 + 120 * i) < 1 for i in range(4)]
    return images.astype("float64"), np.stack(ellipses)[:, None].astype("float64")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in ("SAMNet", "CTDNet18") else pytest.mark.slow) for n in ZOO],
)
def test_losses_gradients_and_statistics_are_the_originals(name, double):
    """In float64, as the reference: in float32 SAMNet's batch norms of four values magnify
    rounding a thousandfold."""
    reference = json.loads((DATA / "zoo_train_seed5.json").read_text())[name]
    allowed = reference["rel_diff_float32"]
    net = build_network(name)
    fill_zoo(net)
    net.train()
    for layer in net.sublayers():
        if isinstance(layer, paddle.nn.Dropout2D):
            layer.p = 0.0
    images, masks = map(paddle.to_tensor, batch_of_ellipses())
    losses = []
    for p in map(F.sigmoid, net(images)):
        both = (2 * (p * masks).sum([1, 2, 3]) + 1) / ((p + masks).sum([1, 2, 3]) + 1)
        losses.append((1 - both).mean())
    if name == "SAMNet":  # the reference lists its maps as the original returns them
        losses = [losses[0], *losses[:0:-1]]
    total = sum(loss / 2**i for i, loss in enumerate(losses))
    total.backward()

    for found, wanted, part in zip(losses, reference["losses"], allowed["losses"]):
        assert float(found) == pytest.approx(wanted, rel=3 * part)
    for module, wanted in reference["grad_sumsq"].items():
        grads = [p.grad for p in getattr(net, module).parameters() if p.grad is not None]
        squares = sum(float((grad**2).sum()) for grad in grads)
        assert squares == pytest.approx(wanted, rel=3 * allowed["grad_sumsq"][module])
    silent = [key for key, p in net.named_parameters() if p.trainable and p.grad is None]
    assert silent == reference["no_gradient"]
    for kind, wanted in (("mean", "running_mean_sum"), ("variance", "running_var_sum_biased")):
        values = [v for key, v in net.state_dict().items() if key.endswith(f"_{kind}")]
        part = allowed["running_var_sum" if kind == "variance" else wanted]
        assert sum(float(v.sum()) for v in values) == pytest.approx(reference[wanted], rel=3 * part)


def test_each_network_has_its_size_and_normalisation():
    sizes = [network.input_size for network in (U2Net, SAMNet, CTDNet, GCPANet)]
    assert sizes == [320, 336, 352, 320]
    assert U2Net.normalisation == (*IMAGENET[:2], True)
    assert SAMNet.normalisation is IMAGENET
    assert CTDNet.normalisation is GCPANet.normalisation is RELEASE


def test_every_network_can_be_told_from_its_keys():
    assert sorted({*SIGNATURES, "U2Netp"}) == sorted(NETWORKS)
    with pytest.raises(InputError, match=r"none of the networks M3_0\.5, .*: its keys are a, b"):
        detect_network({"a": 0, "b": 0})


def test_unknown_names_are_quoted_with_the_choices():
    with pytest.raises(ValueError, match=r"'U3Net'.*M3_0\.5.*U2Net"):
        build_network("U3Net")
