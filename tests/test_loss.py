"""The losses: the release's numbers, the gradients of square pools, schedules."""

import json
import re
from pathlib import Path

import numpy as np
import paddle
import pytest

from SCFNet import loss

DATA = Path(__file__).parent / "data"
REFERENCE = json.loads((DATA / "loss_seed3.json").read_text())
functional = paddle.nn.functional


@pytest.fixture(scope="module")
def arrays():
    return dict(np.load(DATA / "loss_seed3.npz"))


def tensor(array, grad=False):
    return paddle.to_tensor(array, stop_gradient=not grad)


def square_boundary(x, k):
    """The definition: square pools, as in the release."""
    inverse = 1 - x
    edge = functional.max_pool2d(inverse, 3, stride=1, padding=1) - inverse
    return functional.max_pool2d(edge, k, stride=1, padding=k // 2)


def random_maps(kind, rng):
    shape = (3, 1, 37, 52)
    if kind == "smooth":
        return rng.random(shape).astype("float32")
    if kind == "few levels":
        return (rng.integers(0, 4, shape) / 3).astype("float32")
    logits = tensor(rng.normal(0, 60, shape).astype("float32"))
    return functional.sigmoid(logits).numpy()  # mostly exactly 0 or 1


def test_losses_equal_the_releases(arrays):
    logits, mask = tensor(arrays["pred"]), tensor(arrays["mask"])
    assert float(loss.dice_loss(logits, mask)) == pytest.approx(REFERENCE["dice"], rel=1e-5)
    distilled = float(loss.kd_loss([logits], tensor(arrays["teacher_logits"])))
    assert distilled == pytest.approx(REFERENCE["kd_dice"], rel=1e-5)
    by_kernel = {
        str(k): float(loss.boundary_dice_loss(logits, mask, kernel_size=k))
        for k in loss.PBSM_KERNEL_SIZES
    }
    assert by_kernel == pytest.approx(REFERENCE["boundary"], rel=1e-5)
    for epoch, k in ((0, 13), (9, 11), (68, 1)):  # as the release calls it
        assert float(loss.boundary_dice_loss(logits, mask, epoch)) == by_kernel[str(k)]
    for k in (0, 4, -1):
        with pytest.raises(ValueError, match=f"kernel_size must be odd, not {k}"):
            loss.boundary_dice_loss(logits, mask, kernel_size=k)


def test_gradient_of_sp_equals_the_release(arrays):
    logits = tensor(arrays["pred"], grad=True)
    loss.sp_loss(logits, tensor(arrays["mask"]), 13).backward()
    expected = arrays["grad_sp_largest"]
    error = np.abs(logits.grad.numpy() - expected).max()
    assert error < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("k", [1, 3, 13])
@pytest.mark.parametrize("kind", ["smooth", "few levels", "saturated"])
def test_values_and_gradients_are_those_of_square_pools_even_where_pixels_tie(kind, k):
    rng = np.random.default_rng(k)
    values = random_maps(kind, rng)
    weights = tensor(rng.normal(size=values.shape).astype("float32"))
    results = []
    for function in (loss.boundary_map, square_boundary):
        x = tensor(values, grad=True)
        y = function(x, k)
        (y * weights).sum().backward()
        results.append((y.numpy(), x.grad.numpy()))
    (y, grad), (expected_y, expected_grad) = results
    np.testing.assert_array_equal(y, expected_y)
    np.testing.assert_allclose(grad, expected_grad, rtol=1e-5, atol=2e-5)


def test_boundary_of_a_hand_drawn_mask():
    mask = np.zeros((1, 1, 9, 9), "float32")
    mask[..., 3:6, 3:6] = 1
    thin = loss.boundary_map(tensor(mask), 1).numpy()[0, 0]
    ring = mask[0, 0].copy()
    ring[4, 4] = 0  # the pixels of the square that touch the background
    np.testing.assert_array_equal(thin, ring)
    assert loss.boundary_map(tensor(mask), 3).numpy().sum() == 5 * 5


def test_fs_loss_halves_the_weight_of_each_deeper_map(arrays):
    logits, mask = tensor(arrays["pred"]), tensor(arrays["mask"])
    maps = [logits, -logits, 2 * logits, logits * 0]
    expected = sum(float(loss.sp_loss(m, mask, 5)) / 2**i for i, m in enumerate(maps))
    assert float(loss.fs_loss(maps, mask, 5)) == pytest.approx(expected, rel=1e-6)


def test_kd_loss_teaches_all_maps_and_not_the_teacher(arrays):
    maps = [tensor(arrays["pred"] * scale, grad=True) for scale in (1, 2, 3, 4)]
    teacher = tensor(arrays["teacher_logits"], grad=True)
    loss.kd_loss(maps, teacher).backward()
    assert all(np.abs(m.grad.numpy()).max() > 0 for m in maps)
    assert teacher.grad is None


def test_each_loss_has_a_name(arrays):
    logits, mask = tensor(arrays["pred"]), tensor(arrays["mask"])
    p = 1 / (1 + np.exp(-arrays["pred"].astype("float64")))
    g = arrays["mask"]
    expected = {
        "dice": REFERENCE["dice"],
        "sp": REFERENCE["dice"] + REFERENCE["boundary"]["7"],
        "bce": -(g * np.log(p) + (1 - g) * np.log(1 - p)).mean(),
    }
    expected["bce+sp"] = expected["bce"] + expected["sp"]
    expected["bce+dice"] = expected["bce"] + expected["dice"]
    assert set("+".join(expected).split("+")) == set(loss.LOSS_TERMS)
    for name, value in expected.items():
        losses = loss.map_losses([logits, logits], mask, name, 7)
        assert [float(v) for v in losses] == pytest.approx([value, value], rel=1e-5)


def test_an_unknown_loss_names_the_known(arrays):
    logits = tensor(arrays["pred"])
    for name in ("iou", "", "sp+", "sp+sp", "SP"):
        with pytest.raises(ValueError, match=rf"'{re.escape(name)}'.*sp, dice, bce"):
            loss.map_losses([logits], logits, name)


def test_half_precision_logits_give_a_float32_loss(arrays):
    logits, mask = tensor(arrays["pred"]), tensor(arrays["mask"])
    maps = [logits.astype("float16")] * 4
    total = loss.fs_loss(maps, mask, 13)
    rounded = [m.astype("float32") for m in maps]
    assert total.dtype == paddle.float32
    assert float(total) == pytest.approx(float(loss.fs_loss(rounded, mask, 13)), rel=1e-6)


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_empty_and_full_masks_give_finite_losses_and_gradients(target):
    mask = tensor(np.full((2, 1, 20, 24), target, "float32"))
    for value in (-1e4, 0.0, 1e4):
        logits = tensor(np.full((2, 1, 20, 24), value, "float32"), grad=True)
        total = loss.weighted_sum(loss.map_losses([logits], mask, "bce+sp", 13))
        total.backward()
        assert np.isfinite(float(total)) and np.isfinite(logits.grad.numpy()).all()


def test_pbsm_staircase_of_the_paper_and_of_the_release():
    paper = [loss.pbsm_kernel(epoch) for epoch in range(69)]
    release = [loss.pbsm_kernel(epoch, schedule="release") for epoch in range(69)]
    assert paper == [k for k in (13, 11, 9, 7, 5, 3) for _ in range(10)] + [1] * 9
    assert release == [max(1, 13 - 2 * ((epoch + 1) // 10)) for epoch in range(69)]
    with pytest.raises(ValueError, match="paper, release"):
        loss.pbsm_kernel(0, schedule="linear")


def test_pbsm_scales_to_other_totals():
    for epochs in (1, 7, 30, 69, 138, 1000):
        kernels = [loss.pbsm_kernel(epoch, epochs) for epoch in range(epochs)]
        assert kernels[0] == 13
        assert kernels == sorted(kernels, reverse=True)
        if epochs >= 30:
            assert set(kernels) == set(loss.PBSM_KERNEL_SIZES)
            assert kernels.count(13) == pytest.approx(epochs * 10 / 69, abs=1)
