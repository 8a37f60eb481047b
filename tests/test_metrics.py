"""SCFNet/metrics.py: the reference's numbers, degenerate input, and agreement with pysodmetrics."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import py_sod_metrics
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.ndimage import correlate, distance_transform_edt

from SCFNet.metrics import (
    PROTOCOLS,
    THRESHOLDS,
    PaperScore,
    PysodScore,
    binarize,
    f_measure,
    precision_recall,
    scale,
    weighted_f,
)

DATA = Path(__file__).parent / "data"


def reference_pairs():
    for path in sorted((DATA / "metrics_seed11" / "gt").iterdir()):
        yield (
            cv2.imread(str(DATA / "metrics_seed11" / "maps" / path.name), cv2.IMREAD_GRAYSCALE),
            cv2.imread(str(path), cv2.IMREAD_GRAYSCALE),
        )


def test_paper_protocol_gives_the_toolbox_values():
    score = PaperScore()
    for saliency_map, mask in reference_pairs():
        score.add(saliency_map, mask)
    expected = json.loads((DATA / "metrics_seed11.json").read_text())
    assert score.result() == pytest.approx(expected, abs=1e-7)


def test_maps_from_0_to_255_give_the_toolbox_values():
    """There k / 255 is the k-th threshold, and rounding decides which values reach it."""
    score = PaperScore()
    for saliency_map, mask in reference_pairs():
        low, high = int(saliency_map.min()), int(saliency_map.max())
        full = np.rint(255 * ((saliency_map - low) / (high - low))).astype(np.uint8)
        score.add(full, mask)
    expected = {  # of the release's saliency_toolbox.py
        "MAE": 0.07318969104197673,
        "E-measure": 0.9212433469179817,
        "S-measure": 0.8896264934184094,
        "Adp-F": 0.7823879718780518,
        "Wgt-F": 0.7024751255303708,
        "Max-F": 0.9003003041544617,
        "Mean-F": 0.7627810646954972,
    }
    assert score.result() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("low, high", [(0, 51), (0, 204), (3, 201), (60, 255), (254, 255)])
def test_a_map_is_scaled_as_the_toolbox_does(low, high):
    grey = np.tile(np.arange(low, high + 1, dtype=np.uint8), (3, 1))
    toolbox = cv2.normalize(grey.astype(float), None, 0.0, 1.0, cv2.NORM_MINMAX)
    np.testing.assert_array_equal(scale(grey), toolbox)
    np.testing.assert_array_equal(scale(grey.astype(np.uint16) * 257), toolbox)


@pytest.mark.parametrize("protocol", PROTOCOLS.values())
def test_sums_of_parts_add_up_to_the_whole(protocol):
    whole, *parts = (protocol() for _ in range(4))  # the last part gets no image
    pairs = [*reference_pairs(), (np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.uint8))]
    for number, (saliency_map, mask) in enumerate(pairs):
        whole.add(saliency_map, mask)
        parts[number % 2].add(saliency_map, mask)
    total = protocol(sum(part.sums for part in parts))
    assert (total.count, total.empty) == (whole.count, whole.empty) == (9, 1)
    assert total.result() == pytest.approx(whole.result(), abs=1e-12)
    np.testing.assert_allclose(total.curves()["f"], whole.curves()["f"], atol=1e-12)


def blob(shape, seed):
    """A random mask that has an object and a background, bool [H, W]."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.random(shape), (0, 0), rng.uniform(1, 8))
    mask = noise > np.quantile(noise, rng.uniform(0.05, 0.9))
    mask.flat[0], mask.flat[-1] = True, False
    return mask


def soft_map(mask, seed):
    """A map that finds the mask more or less, uint8 [H, W]."""
    rng = np.random.default_rng(seed)
    noisy = np.clip(mask + rng.normal(0, rng.uniform(0.05, 1), mask.shape), 0, 1)
    return (cv2.GaussianBlur(noisy, (0, 0), rng.uniform(0.5, 5)) * 255).astype(np.uint8)


SHAPES = st.tuples(st.integers(2, 60), st.integers(2, 60))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the library's S of an empty region
@settings(max_examples=40, deadline=None)
@given(SHAPES, st.integers(0, 10**6))
def test_paper_equals_pysod_where_the_definitions_agree(shape, seed):
    mask = blob(shape, seed)
    saliency_map, mask = soft_map(mask, seed), mask.astype(np.uint8) * 255
    values = scale(saliency_map)
    assume(abs(values - min(2 * values.mean(), 1)).min() > 1e-9)  # rounding decides no pixel
    paper, pysod = PaperScore().add(saliency_map, mask), PysodScore().add(saliency_map, mask)
    assert paper["E-measure"] == pytest.approx(pysod["Adp-E"], abs=1e-4)
    for name in ("MAE", "Adp-F", "Wgt-F"):
        assert paper[name] == pytest.approx(pysod[name], abs=1e-4), name


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.integers(0, 10**6), st.booleans())
def test_precision_and_recall_equal_256_comparisons(shape, seed, is_float):
    mask = blob(shape, seed)
    values = scale(soft_map(mask, seed))
    values.flat[0] = -1e-17  # as rounding may leave the darkest
    if is_float:
        values = scale(cv2.GaussianBlur(values, (3, 3), 0))
    above = values >= THRESHOLDS[:, None, None]
    hits = (above & mask).sum(axis=(1, 2))
    precision, recall = precision_recall(values, mask)
    np.testing.assert_allclose(precision, hits / np.maximum(above.sum(axis=(1, 2)), 1), atol=1e-12)
    np.testing.assert_allclose(recall, hits / mask.sum(), atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.integers(0, 10**6))
def test_weighted_f_chooses_among_equally_near_pixels_as_scipy_does(shape, seed):
    mask = np.random.default_rng(seed).random(shape) < 0.03
    mask.flat[seed % mask.size] = True
    values = np.random.default_rng(seed + 1).random(shape)
    distance, (rows, columns) = distance_transform_edt(~mask, return_indices=True)
    error = abs(values - mask)
    gaussian = cv2.getGaussianKernel(7, 5, cv2.CV_64F)
    smooth = correlate(error[rows, columns], gaussian @ gaussian.T, mode="constant")
    weighted = np.where(mask & (smooth < error), smooth, error)
    weighted *= 2 - np.exp(np.log(0.5) / 5 * distance)
    hit, false = mask.sum() - weighted[mask].sum(), weighted[~mask].sum()
    expected = f_measure(hit / (hit + false), hit / mask.sum(), beta2=1)
    assert weighted_f(error, mask) == pytest.approx(float(expected), abs=1e-6)


def mask_of(height, width, *box):
    """A mask in which the rows and columns of `box`, (y0, y1, x0, x1), are the object."""
    mask = np.zeros((height, width), np.uint8)
    mask[box[0] : box[1], box[2] : box[3]] = 255
    return mask


NINE = mask_of(8, 9, 2, 5, 3, 6)  # an object of 9 of 72 pixels
CORNER = np.array([[0, 255], [255, 255]], np.uint8)
NO_F = dict.fromkeys(("Adp-F", "Wgt-F", "Max-F", "Mean-F"), 0)
ALL_F = {"S-measure": 1, "Adp-F": 1, "Wgt-F": 1, "Max-F": 1}
WHITE = {"MAE": 1 / 4, "E-measure": 3 / 3, "S-measure": 3 / 4, "Adp-F": 0.975 / 1.05}
WHITE["Wgt-F"] = PysodScore().add(CORNER, CORNER * 0 + 255)["Wgt-F"]
DEGENERATE = {  # map, mask, and the values
    "a perfect map": (NINE, NINE, {"MAE": 0, "E-measure": 72 / 71, **ALL_F}),
    "a black mask": (255 - CORNER, CORNER * 0, {
        "MAE": 1 / 4, "E-measure": 3 / 3, "S-measure": 3 / 4, **NO_F
    }),
    "a white mask of 1": (CORNER, CORNER * 0 + 1, WHITE),
    "a white mask of 255": (CORNER, CORNER * 0 + 255, WHITE),
    **{
        f"a constant map of {value}": (np.full((8, 9), level, kind), NINE, {
            "MAE": (9 * (1 - value) + 63 * value) / 72
        })
        for level, kind, value in (
            *((0, "uint8", 0), (51, "uint8", 0.2), (65535, "uint16", 1), (0.4, "float32", 0.4)),
        )
    },
    **{
        f"one pixel of {level} for {white}": (
            np.uint8([[level]]), np.uint8([[white]]), {"MAE": float((level > 0) != (white > 0))}
        )
        for level in (0, 255)
        for white in (0, 1, 255)
    },
}  # fmt: skip


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_input_has_the_values_that_the_module_says(name):
    found, mask, expected = DEGENERATE[name]
    score = PaperScore()
    own = score.add(found, mask)
    assert {key: own[key] for key in expected} == pytest.approx(expected, abs=1e-6)
    assert all(0 <= value <= 1.02 for value in own.values())
    assert score.empty == (not mask.any())


def test_s_of_one_pixel_is_the_toolboxs_and_not_the_librarys():
    mask, found = mask_of(20, 30, 7, 8, 11, 12), mask_of(20, 30, 7, 9, 11, 13)
    assert PaperScore().add(found, mask)["S-measure"] == pytest.approx(0.8157097, abs=1e-6)
    assert PysodScore().add(found, mask)["S-measure"] == pytest.approx(0.5628796, abs=1e-6)


@pytest.mark.parametrize("protocol", PROTOCOLS.values())
def test_iou_dice_and_ber_are_of_the_map_above_a_half(protocol):
    mask, found = mask_of(10, 10, 2, 6, 2, 6), mask_of(10, 10, 2, 6, 4, 8)
    found[2:6, 2:4] = 100  # less than half of the brightest
    score = protocol(binary=["IoU", "BER", "Dice"])
    own = score.add(found, mask)
    assert (own["IoU"], own["Dice"]) == pytest.approx((8 / 24, 16 / 32))
    assert own["BER"] == pytest.approx(1 - (8 / 16 + 76 / 84) / 2)
    score.add(found, np.zeros_like(mask))
    assert score.result()["IoU"] == pytest.approx(8 / 24 / 2)
    assert "IoU" not in protocol().add(found, mask)
    assert set(own) == set(protocol.all_names())


def test_a_map_of_another_size_is_stretched_and_then_resized():
    saliency_map, mask = next(reference_pairs())
    small = cv2.resize(saliency_map, (50, 40)) // 2
    resized = cv2.resize(scale(small), mask.shape[::-1])
    own = PaperScore().add(small, mask)
    assert own["MAE"] == pytest.approx(abs(resized - binarize(mask)).mean(), abs=1e-9)
    assert PysodScore().add(small, mask)["MAE"] == pytest.approx(own["MAE"], abs=0.01)


@pytest.mark.parametrize("protocol", [PaperScore, PysodScore])
def test_coding_of_map_and_mask_does_not_matter(protocol):
    saliency_map, mask = next(reference_pairs())
    plain = protocol().add(saliency_map, mask)
    assert protocol().add(saliency_map, mask // 255) == pytest.approx(plain, abs=1e-9)
    assert protocol().add(saliency_map, mask > 0) == pytest.approx(plain, abs=1e-9)
    assert protocol().add((saliency_map / 255).astype("f4"), mask) == pytest.approx(plain, abs=1e-5)
    deep = protocol().add(saliency_map.astype(np.uint16) * 257, mask.astype(np.uint16) * 257)
    assert deep == pytest.approx(plain, abs=1e-9)


@pytest.mark.parametrize("protocol", [PaperScore, PysodScore])
def test_what_is_not_a_grey_image_is_refused(protocol):
    grey = np.zeros((4, 4))
    for bad in (np.zeros((4, 4, 3)), np.zeros((0, 4)), np.full((4, 4), np.nan)):
        with pytest.raises(ValueError, match=r"grey image|finite"):
            protocol().add(bad, grey)
        with pytest.raises(ValueError, match=r"grey image|finite"):
            protocol().add(grey, bad)
    with pytest.raises(ValueError, match="no map"):
        protocol().result()


def test_pysod_is_the_library_over_the_set():
    score, mae, f = PysodScore(), py_sod_metrics.MAE(), py_sod_metrics.FmeasureV2()
    f.add_handler("f", py_sod_metrics.FmeasureHandler(True, True))
    for saliency_map, mask in reference_pairs():
        saliency_map = cv2.resize(saliency_map, mask.shape[::-1])
        score.add(saliency_map, mask)
        mae.step(saliency_map, mask)
        f.step(saliency_map, mask)
    result, expected = score.result(), f.get_results()["f"]
    assert result["MAE"] == pytest.approx(mae.get_results()["mae"], abs=1e-12)
    assert result["Max-F"] == pytest.approx(expected["dynamic"].max(), abs=1e-12)
    assert result["Mean-F"] == pytest.approx(expected["dynamic"].mean(), abs=1e-12)
    assert score.curves()["recall"][0] == 1


def test_metrics_never_load_paddle():
    code = "import sys, SCFNet.metrics; sys.exit('paddle' in sys.modules)"
    assert subprocess.call([sys.executable, "-c", code], cwd=DATA.parents[1]) == 0
