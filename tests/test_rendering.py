"""Pictures of a result: what is in the mask, the cut-out and the overlay."""

import cv2
import numpy as np
import pytest

from SCFNet.errors import InputError
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
    to_bytes,
)
from tests.conftest import ROOT

IMAGE = np.full((40, 60, 3), 100, "uint8")
SALIENCY = np.zeros((40, 60), "float32")
SALIENCY[10:20, 15:40] = 0.8


def test_a_map_becomes_bytes():
    alpha = to_bytes(SALIENCY)
    assert alpha.dtype == np.uint8 and alpha[12, 20] == 204 and alpha[0, 0] == 0
    assert set(np.unique(to_bytes(SALIENCY, 0.8))) == {0, 255}
    assert to_bytes(SALIENCY, 0.81).max() == 0


def test_the_box_holds_the_object_or_all():
    alpha = to_bytes(SALIENCY)
    assert IMAGE[object_box(alpha)].shape == (10, 25, 3)
    assert IMAGE[object_box(alpha * 0)].shape == IMAGE.shape


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
    for wrong in ("no-such-thing", "x" * 5000, ""):
        with pytest.raises(InputError, match=r"background: .*neither a colour"):
            parse_background(wrong)


@pytest.mark.parametrize(("scale", "softness"), [(1, 0.05), (1, 0.15), (3, 0.1)])
def test_the_colours_of_a_soft_rim_are_the_objects(scale, softness):
    """A known object is laid over a known background; in the rim, weighted by the share of the
    object, a third of the background's colour and more must go.
    """
    front = read_image(ROOT / "tests/data/chelsea.png")
    front = cv2.resize(front, None, fx=scale, fy=scale)
    height, width = front.shape[:2]
    back = cv2.resize(read_image(ROOT / "tests/data/coffee.jpg"), (width, height))
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
