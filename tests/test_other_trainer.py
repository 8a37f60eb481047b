"""A trainer with kernels of its own equals tools/train.py: 20 steps, side by side.

The shipped SCFNet M3_0.5 comes from a script with kernels in C++, which is not part of this
repository. Such kernels wrote tests/data/other_trainer.npz, from the same start, batches and
settings: the losses, and a readout of the weights after the last step and of their average.
"""

from pathlib import Path

import numpy as np
import paddle
import pytest

from SCFNet import engine
from SCFNet.training import state
from tests.conftest import recipe
from tests.fill_weights import fill

REFERENCE = Path(__file__).parent / "data" / "other_trainer.npz"
STEPS, PHOTOS, SIDE, KERNEL_SIZE, PICKED = 20, 4, 96, 5, 4
RATES = 0.0015 * np.arange(1, STEPS + 1) / 200  # a warm-up of 200 steps, as in the training
# What these blocks of the backbone add to all pixels, as a bias before a batch norm, is taken off
# again by the next batch norm: their gradients are rounding, of which AdamW would make whole steps.
ANNULLED = [f"bkbone.blocks.{i}.linear_conv.bn.bias" for i in (0, 6, 7, 8, 9)]


def batches():
    """Yield images uint8 [N, 3, H, W] and masks float32 [N, 1, H, W]: an ellipse on a slope."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    for _ in range(STEPS):
        images, masks = [], []
        for _ in range(PHOTOS):
            cy, cx = rng.uniform(0.3, 0.7, 2)
            ry, rx = rng.uniform(0.12, 0.35, 2)
            inside = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1
            ground, slope, colour = (
                rng.uniform(low, high, 3)[:, None, None]
                for low, high in ((20, 150), (-60, 60), (60, 230))
            )
            image = np.where(inside, colour, ground + slope * (x + y) / 2)
            image += rng.normal(0, 12, (3, SIDE, SIDE))
            images.append(image.clip(0, 255).astype("uint8"))
            masks.append(inside[None].astype("float32"))
        yield np.stack(images), np.stack(masks)


def is_annulled(key):
    """Return whether a parameter changes no map, so that it is kept as it is on both sides."""
    return key in ANNULLED or (not key.startswith(("bkbone", "linear")) and key.endswith("0.bias"))


def readout(arrays):
    """Mean, root of the mean square and PICKED entries of each array: float32 [arrays, 6]."""
    rng = np.random.default_rng(0)
    rows = []
    for key in sorted(arrays):
        value = arrays[key].astype("float64").ravel()
        picked = value[rng.integers(0, value.size, PICKED)]
        rows.append([value.mean(), np.sqrt((value**2).mean()), *picked])
    return np.array(rows, "float32")


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["bce+dice", "bce+sp"])
def test_twenty_steps_of_another_trainer_are_equal(loss):
    """Losses, weights and their average: AdamW, clipped gradients, the backbone at 0.3 of the rate.

    The decay is 50 times the usual one, so that it shows in 20 steps.
    """
    knobs = recipe(loss=loss, optimizer="adamw", weight_decay=1.0, backbone_lr_scale=0.3, ema=0.998)
    run = state.new_run(knobs)
    fill(run.net)
    run.average.set_state_dict(run.net.state_dict())
    for key, parameter in run.net.named_parameters():
        if is_annulled(key):
            parameter.optimize_attr["learning_rate"] = 0.0
    losses = []
    for rate, (images, masks) in zip(RATES, batches()):
        tensors = paddle.to_tensor(images.astype("float32")), paddle.to_tensor(masks)
        losses.append(engine.train_step(run, *tensors, rate, KERNEL_SIZE)[0].item())
    expected = np.load(REFERENCE)
    np.testing.assert_allclose(losses, expected[f"{loss}/losses"], rtol=2e-4)
    keys = sorted(run.net.state_dict())
    statistics = np.array([key.endswith(("_mean", "_variance")) for key in keys])
    for name, net in (("weights", run.net), ("average", run.average)):
        found = readout({key: value.numpy() for key, value in net.state_dict().items()})
        wanted = expected[f"{loss}/{name}"]
        allowed = np.where(statistics, 3e-3 * wanted[:, 1], 2e-4)  # weights have moved by 1e-3
        worst = (np.abs(found - wanted).max(1) / allowed).argmax()
        np.testing.assert_allclose(
            found[worst], wanted[worst], rtol=0, atol=allowed[worst], err_msg=keys[worst]
        )
