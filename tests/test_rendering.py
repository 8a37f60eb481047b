"""Pictures of a result: what is in the mask, the cut-out and the overlay."""

import cv2
import numpy as np
import pytest

from SCFNet.errors import InputError
from SCFNet.maps import EDGE, clean_alpha, resize_map, smooth_edges, to_bytes
from SCFNet.photos.reading import read_image
from SCFNet.photos.writing import write_png
from SCFNet.prediction.rendering import (
    RenderOptions,
    cover,
    object_box,
    object_colors,
    overlay,
    parse_background,
    render,
)
from tests.conftest import CHELSEA, COFFEE

IMAGE = np.full((40, 60, 3), 100, "uint8")
SALIENCY = np.zeros((40, 60), "float32")
SALIENCY[10:20, 15:40] = 0.8


def test_a_map_becomes_bytes():
    alpha = to_bytes(SALIENCY)
    assert alpha.dtype == np.uint8 and alpha[12, 20] == 204 and alpha[0, 0] == 0
    assert set(np.unique(to_bytes(SALIENCY, 0.8))) == {0, 255}
    assert to_bytes(SALIENCY, 0.81).max() == 0


def sigmoid(logits):
    return (1 / (1 + np.exp(-np.asarray(logits, "float32")))).astype("float32")


def blobs(*found, size=352):
    """A map of discs (x, y, radius, chance)."""
    rows, columns = np.mgrid[:size, :size]
    saliency = np.zeros((size, size), "float32")
    for x, y, radius, chance in found:
        saliency[np.hypot(columns - x, rows - y) <= radius] = chance
    return saliency


OBJECT = (180, 180, 60, 0.99)


@pytest.mark.parametrize(
    ("other", "kept"),
    [
        ((300, 300, 30, 0.25), False),  # haze
        ((300, 300, 8, 0.99), False),  # a speck
        ((300, 300, 40, 0.99), True),  # another object
        ((248, 180, 5, 0.99), True),  # a part beside the object
        ((180, 180, 20, 0.01), True),  # a hole within it
    ],
)
@pytest.mark.parametrize("shape", [(352, 352), (1000, 700)])
def test_a_clean_alpha_has_no_haze_and_no_specks(other, kept, shape):
    alone = clean_alpha(blobs(OBJECT), shape)
    assert alone.shape == shape and alone[shape[0] // 2, shape[1] // 2] == 255
    both = clean_alpha(blobs(OBJECT, other), shape)
    assert (both != alone).any() == kept
    assert alone[:10].max() == 0


def test_a_clean_alpha_rises_between_two_chances_whatever_was_sharpened():
    logits = np.linspace(-2, 2, 41, dtype="float32")
    expected = np.clip(logits / EDGE * 127.5 + 127.5, 0, 255)
    contrast = np.clip((sigmoid(logits) - 0.3) / 0.4, 0, 1) * 255
    np.testing.assert_allclose(expected, contrast, atol=5)
    for factor in (1, 2):
        saliency = np.tile(sigmoid(factor * logits), (41, 1))
        alpha = clean_alpha(saliency, saliency.shape, factor)
        np.testing.assert_allclose(alpha[20], expected, atol=1)
        hard = clean_alpha(saliency, saliency.shape, factor, threshold=0.8)
        np.testing.assert_array_equal(hard[20], np.where(saliency[20] >= 0.8, 255, 0))


def test_an_edge_is_smooth_where_a_map_resized_has_steps():
    """A slanted edge, enlarged eleven times: how far its line is from straight."""
    rows, columns = np.mgrid[:96, :96]
    saliency = sigmoid(np.clip(3 * (columns - 30 - 0.37 * rows), -9, 9))
    shape = (96 * 11, 96 * 11)

    def roughness(alpha):
        places = (alpha[100:-100] >= 128).argmax(1)
        line = np.polyval(np.polyfit(np.arange(len(places)), places, 1), np.arange(len(places)))
        return np.abs(places - line).mean()

    assert roughness(clean_alpha(saliency, shape)) < 0.7 * roughness(
        to_bytes(resize_map(saliency, shape))
    )


def test_the_grid_of_a_network_does_not_show_in_the_outline_of_a_disc():
    """An uneven disc on a grid of a quarter of the map: how far its radius is from even."""
    rows, columns = np.mgrid[:88, :88]
    grid = 60 - 2 * np.hypot(columns - 44, rows - 44)
    grid += np.random.default_rng(0).normal(0, 0.5, grid.shape)
    logits = cv2.resize(grid.clip(-6, 6).astype("float32"), (352, 352))
    shape = (1408, 1408)

    def roughness(seen):
        polar = cv2.warpPolar(seen, (700, 2048), (711.5, 711.5), 700, cv2.WARP_POLAR_LINEAR)
        return (polar >= 128).sum(1).std()

    alpha = clean_alpha(sigmoid(logits), shape)
    assert roughness(alpha) < 0.5 * roughness(to_bytes(resize_map(logits, shape), 0))


@pytest.mark.parametrize("slope", [0, 0.3, 1, None])
def test_neither_thin_parts_nor_small_holes_are_smoothed_away(slope):
    """A weak line of four pixels from an object to the edge of the photo; or a hole of eight, as
    between fingers, or in the handle of a cup.
    """
    rows, columns = np.mgrid[:352, :352]
    saliency = blobs((180, 120, 60, 0.99)).clip(0.01)
    if slope is None:
        part = seen = np.hypot(rows - 120, columns - 180) <= 4
    else:
        part = (np.abs(rows - 120 - slope * (columns - 180)) <= 2) & (columns > 230)
        seen = part & (columns > 245)
    saliency[part] = 0.3 if slope is None else 0.7
    alpha = clean_alpha(saliency, (1056, 1056))[1::3, 1::3][seen]
    assert alpha.max() < 128 if slope is None else alpha.min() >= 128


@pytest.mark.parametrize(("side", "keeps"), [(160, True), (352, False)])
def test_what_is_thin_in_a_small_map_keeps_its_corners(side, keeps):
    """A bar of 24 pixels would be 53 of a large map, where 24 are thick and corners are rounded."""
    logits = np.full((side, side), -3, "float32")
    logits[30:110, 50:74] = 3
    assert (np.abs(smooth_edges(logits) - logits).max() < 1) == keeps


@pytest.mark.parametrize("side", [224, 288, 352])
@pytest.mark.parametrize("share", [0.08, 0.15, 0.25])
def test_what_is_round_does_not_shrink(side, share):
    """A disc whose diameter is a `share` of the photo's, on a network's grid: its area."""
    rows, columns = np.mgrid[: side // 4, : side // 4] - side / 8 + 0.5
    grid = share * side / 8 - np.hypot(rows, columns)
    logits = cv2.resize((4 * grid).clip(-4, 4).astype("float32"), (side, side))
    assert (smooth_edges(logits) > 0).sum() == pytest.approx((logits > 0).sum(), rel=0.05)


@pytest.mark.parametrize("value", [0, 1])
def test_a_map_of_one_value_stays_one(value):
    alpha = clean_alpha(np.full((32, 32), value, "float32"), (50, 40))
    assert alpha.shape == (50, 40) and (alpha == 255 * value).all()


def test_the_box_holds_the_object_or_all():
    alpha = to_bytes(SALIENCY)
    shapes = [IMAGE[object_box(box)].shape for box in (alpha, alpha * 0)]
    assert shapes == [(10, 25, 3), IMAGE.shape]


def test_the_overlay_tints_the_object_alone():
    shown = overlay(IMAGE, to_bytes(SALIENCY))
    np.testing.assert_array_equal(shown[2, 2], IMAGE[2, 2])
    assert shown[15, 28, 0] > 130 and shown[15, 28, 1] < 100


def test_a_cutout_lies_on_nothing_or_on_a_background():
    alpha = to_bytes(SALIENCY)
    cutout = render("cutout", IMAGE, alpha, RenderOptions())
    np.testing.assert_array_equal(cutout, np.dstack([IMAGE, alpha]))
    over = render("cutout", IMAGE, alpha, RenderOptions(background=parse_background("#00ff00")))
    np.testing.assert_array_equal(over[0, 0], [0, 255, 0])
    np.testing.assert_array_equal(over[15, 28], [80, 131, 80])


def test_a_background_is_a_colour_or_a_picture_that_covers(tmp_path):
    picture = np.zeros((10, 40, 3), "uint8")
    picture[:, 14:26] = 255
    write_png(tmp_path / "wide.png", picture)
    fitted = cover(parse_background(str(tmp_path / "wide.png")), (20, 20))
    assert fitted.shape == (20, 20, 3) and fitted.min() == 255
    with pytest.raises(InputError, match="neither a colour"):
        parse_background("")


@pytest.mark.parametrize(("scale", "softness"), [(1, 0.05), (1, 0.15), (3, 0.1)])
def test_the_colours_of_a_soft_rim_are_the_objects(scale, softness):
    """A known object is laid over a known background; in the rim, weighted by the share of the
    object, a third of the background's colour and more must go.
    """
    front = read_image(CHELSEA)
    front = cv2.resize(front, None, fx=scale, fy=scale)
    height, width = front.shape[:2]
    back = cv2.resize(read_image(COFFEE), (width, height))
    y, x = np.mgrid[:height, :width]
    distance = np.hypot((y / height - 0.5) / 0.35, (x / width - 0.5) / 0.3)
    share = np.clip((1 - distance) / softness + 0.5, 0, 1)[..., None]
    mixed = np.rint(front * share + back * (1 - share)).astype("uint8")
    alpha = np.rint(share[..., 0] * 255).astype("uint8")

    def error(colors):
        rim = (alpha > 12) & (alpha < 243)
        return np.abs((colors.astype("float32") - front) * share)[rim].mean()

    assert error(object_colors(mixed, alpha)) < 0.65 * error(mixed)
    np.testing.assert_array_equal(object_colors(mixed, alpha)[alpha == 255], mixed[alpha == 255])


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (2000, 2)])
def test_edge_colors_work_in_thin_pictures(shape):
    image = np.full((*shape, 3), 90, "uint8")
    options = RenderOptions(edge_colors=True)
    for value in (0, 128, 255):
        alpha = np.full(shape, value, "uint8")
        cutout = render("cutout", image, alpha, options)
        assert cutout.shape == (*shape, 4)
        if value:
            assert np.abs(cutout[..., :3].astype(int) - 90).max() <= 1
