"""SCFNet/scoring/cost.py: parameters, FLOPs and MACCs as the paper counts them."""

import pytest

from SCFNet.net import SCFNet
from SCFNet.scoring.cost import cost


@pytest.mark.slow
@pytest.mark.parametrize(
    "model, params, flops",
    [
        ("M3_0.5", 800_154, 253_194_747),
        ("R50", 26_148_420, 13_148_501_421),
        ("ST", 88_158_980, 46_747_600_848),
    ],
)
def test_params_and_flops_are_the_papers(model, params, flops):
    counted = cost(SCFNet(backbone=model))
    assert (counted["params"], counted["flops"]) == (params, flops)
    assert 0.9 * flops < counted["maccs"] < flops


def test_counting_leaves_the_network_as_it_was():
    net = SCFNet(backbone="M3_0.5")
    keys = list(net.state_dict())
    first = cost(net)
    assert first == {"params": 800_154, "flops": 253_194_747, "maccs": 239_120_640}
    assert cost(net) == first
    assert list(net.state_dict()) == keys
