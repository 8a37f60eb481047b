"""Saliency maps on any scale, of any depth, in any file mean the same numbers, or are refused."""

import cv2
import numpy as np
import pytest
from PIL import Image

from datasets.maps import CLIP, find_whites, join_maps, read_map
from datasets.sod import Sample, read_pair
from SCFNet.errors import InputError
from tests.conftest import photo

LEVELS = np.array([[0, 1, 1], [2, 3, 255]], "uint8")  # labels, for a mask


def write(path, pixels):
    """Write grey [H, W], or RGB(A) [H, W, C] in the file's own order, of any type."""
    if pixels.dtype in (np.float32, np.int32):
        Image.fromarray(pixels).save(path)
    else:
        cv2.imwrite(str(path), pixels)
    return path


CODED = [
    *(("uint8", white, ".png") for white in (1, 255)),
    *(
        (kind, white, suffix)
        for kind, suffix in (("uint16", ".png"), ("int32", ".tif"), ("float32", ".tif"))
        for white in (1, 255, 1023, 4095, 65535)
    ),
]


@pytest.mark.parametrize(("kind", "white", "suffix"), CODED)
def test_the_brightest_number_of_the_folder_is_the_scale(tmp_path, kind, white, suffix):
    """Also for a map that is dim throughout, and beside others of 8 bits."""
    Image.fromarray(photo(0, 9, 9)).save(tmp_path / "a.jpg")
    soft = np.linspace(0, 1, 81).reshape(9, 9)
    expected = {"bright": soft, "dim": soft / 4, "other": soft}
    maps = {name: (values * white).astype(kind) for name, values in expected.items()}
    if kind != "uint8":
        maps["other"] = (soft * 255).astype("uint8")
    paths = [write(tmp_path / f"{name}{suffix}", pixels) for name, pixels in maps.items()]
    for path, found in find_whites(paths).items():
        mask = read_pair(Sample("a", tmp_path / "a.jpg", path, found))[1]
        own = 255 if path.stem == "other" and kind != "uint8" else white
        np.testing.assert_allclose(mask / 255, maps[path.stem] / own, atol=1e-6)


def test_a_float_map_may_pass_its_white_a_little(tmp_path):
    path = write(tmp_path / "a.tif", np.array([[-0.002, 0.5, 1.003]], "float32"))
    assert find_whites([path]) == {path: 1.0}
    Image.fromarray(photo(0, 1, 3)).save(tmp_path / "a.jpg")
    mask = read_pair(Sample("a", tmp_path / "a.jpg", path, 1.0))[1]
    np.testing.assert_allclose(mask, [[0, 127.5, 255]])


def test_maps_keep_what_a_mask_would_not(tmp_path):
    """A map of two dim levels, or of small numbers, is no label image."""
    for pixels in (LEVELS, LEVELS.astype("uint16") * 257):
        path = write(tmp_path / "m.png", pixels)
        np.testing.assert_array_equal(read_map(path, find_whites([path])[path]), pixels)


GREY = photo(1)[..., 0]
COLOUR = {
    name: cv2.applyColorMap(GREY, getattr(cv2, f"COLORMAP_{name.upper()}"))
    for name in ("viridis", "jet", "hot", "bone", "cividis")
}
FULL = np.full_like(GREY, 255)


@pytest.mark.parametrize("name", COLOUR)
@pytest.mark.parametrize("file", ["a.png", "a.jpg", "16 bits.png", "dark in 16 bits.png"])
def test_a_map_in_colours_is_refused(tmp_path, name, file):
    pixels = COLOUR[name]
    if "16" in file:
        pixels = pixels.astype("uint16") * (1 if "dark" in file else 257)
    with pytest.raises(InputError, match=f"{file}: is a colour picture, not a map"):
        read_map(write(tmp_path / file, pixels))


@pytest.mark.parametrize("file", ["a.png", "a.jpg", "a.webp", "a.bmp", "p.png", "a.gif"])
def test_grey_as_colours_is_a_map(tmp_path, file):
    image = Image.fromarray(GREY).convert("P" if file == "p.png" else "RGB")
    image.save(tmp_path / file, quality=90)
    found = read_map(tmp_path / file).astype(int)
    assert np.abs(found - GREY).max() <= (0 if file.endswith(("png", "bmp")) else 12)


@pytest.mark.parametrize("white", [255, 65535])
def test_grey_as_colours_of_16_bits(tmp_path, white):
    pixels = GREY.astype("uint16") * (white // 255)
    path = write(tmp_path / "a.png", np.dstack([pixels] * 3))
    assert find_whites([path]) == {path: white}
    np.testing.assert_array_equal(read_map(path, white), pixels)


CUT_OUTS = {
    "of a photo": (photo(2), GREY, GREY),
    "of a grey photo": (np.dstack([photo(2)[..., 0]] * 3), GREY, GREY),
    "opaque": (np.dstack([GREY] * 3), FULL, GREY),
    "with nothing in it": (photo(2), FULL * 0, FULL * 0),
}


@pytest.mark.parametrize("name", CUT_OUTS)
@pytest.mark.parametrize("deep", [False, True])
def test_the_alpha_of_a_cut_out_is_the_map(tmp_path, name, deep):
    colours, alpha, expected = CUT_OUTS[name]
    pixels = np.dstack([colours[..., ::-1], alpha])
    path = write(tmp_path / "a.png", pixels.astype("uint16") * 257 if deep else pixels)
    found = read_map(path, 65535 if deep else 255)
    np.testing.assert_array_equal(found, expected.astype("uint16") * 257 if deep else expected)


SHAPES = {  # of the photo and the map
    (240, 160, 240, 160): True,
    (240, 160, 480, 320): True,
    (240, 160, 120, 80): True,
    (240, 160, 352, 352): True,  # a network's own
    (240, 160, 256, 160): True,
    (300, 301, 320, 318): True,  # both are nearly square
    (240, 160, 160, 240): False,
    (240, 160, 80, 120): False,
    (240, 160, 320, 481): False,
}


@pytest.mark.parametrize("sizes", SHAPES)
def test_a_map_on_its_side_is_refused(tmp_path, sizes):
    Image.fromarray(photo(0, sizes[1], sizes[0])).save(tmp_path / "a.jpg")
    Image.new("L", sizes[2:], 9).save(tmp_path / "m.png")
    sample = Sample("a", tmp_path / "a.jpg", tmp_path / "m.png", 255.0)
    if SHAPES[sizes]:
        assert read_pair(sample)[1].shape == sizes[:1:-1]
    else:
        fault = rf"m\.png: is {sizes[2]}x{sizes[3]} for a picture of 240x160"
        with pytest.raises(InputError, match=fault):
            read_pair(sample)


def test_joined_maps_add_their_logits():
    """A map that is sure counts as CLIP, so two that doubt it a little more win against it."""

    def joined(*preds):
        return join_maps([np.full((2, 3), 255 * pred, "float32") for pred in preds])[0, 0] / 255

    assert joined(0.6, 0.5) == pytest.approx(0.6, abs=1e-6)
    assert joined(0.8, 0.8) == pytest.approx(16 / 17, abs=1e-6)
    assert joined(1.0, 0.0, 0.6) == pytest.approx(0.6, abs=1e-6)
    least = 1 / (1 + np.exp(CLIP))
    assert joined(1.0, 2 * least, 2 * least) < 0.5 < joined(1.0, 0.3, 0.3)


def test_joined_maps_have_the_size_of_the_largest():
    small, large = np.uint8([[0, 255], [0, 255]]), np.full((4, 8), 128, "uint8")
    found = join_maps([small, large])
    assert found.shape == (4, 8) and found.dtype == np.float32
    assert (found[:, 0] < 20).all() and (found[:, -1] > 235).all() and (np.diff(found) >= 0).all()
