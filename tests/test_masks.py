"""Masks in every coding mean the same pixels; what cannot be told is refused."""

from functools import partial

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datasets.maps import read_map
from datasets.masks import read_mask
from datasets.sod import Sample, read_pair
from SCFNet.errors import InputError
from tests.conftest import HEIGHT, WIDTH, disc, photo

OBJECT = disc() > 0
VOC = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]  # the first colours of PASCAL VOC


def grey(m):
    return Image.fromarray(np.rint(m * 255).astype("uint8"))


def palette(indices, colours):
    image = Image.fromarray(np.asarray(indices, "uint8"), "P")
    image.putpalette(colours)
    return image


def save(path, image, **options):
    """Write a PIL image, or BGR(A) [H, W, C] of 16 bits, which Pillow cannot write."""
    if isinstance(image, np.ndarray):
        cv2.imwrite(str(path), image)
    else:
        image.save(path, **options)
    return path


def deep(mask, white, channels):
    """The mask in each channel of 16 bits, and opaque."""
    pixels = np.repeat(mask[..., None].astype("uint16") * white, channels, axis=2)
    pixels[..., 3:] = 65535
    return pixels


# --- two classes

HARD = {
    "0 and 255": lambda m: grey(m),
    "0 and 1": lambda m: Image.fromarray(m.astype("uint8")),
    "0 and 128": lambda m: Image.fromarray(m.astype("uint8") * 128),
    "100 and 200": lambda m: Image.fromarray(100 + m.astype("uint8") * 100),
    "1 bit": lambda m: Image.fromarray(m),
    "16 bits": lambda m: Image.fromarray(m.astype("uint16") * 65535),
    "0 and 1 in 16 bits": lambda m: Image.fromarray(m.astype("uint16")),
    "0 and 255 in 16 bits": lambda m: Image.fromarray(m.astype("uint16") * 255),
    "grey as RGB": lambda m: grey(m).convert("RGB"),
    "dark red": lambda m: Image.fromarray(m[..., None] * np.array([128, 0, 0], "uint8")),
    "yellow on blue": lambda m: Image.fromarray(
        np.where(m[..., None], [255, 255, 0], [0, 0, 255]).astype("uint8")
    ),
    "PASCAL VOC": lambda m: palette(m, VOC),
    "VOC's second label": lambda m: palette(m * 2, VOC),
    "palette of black and white": lambda m: palette(m, [0, 0, 0, 255, 255, 255]),
    "palette of white and black": lambda m: palette(~m, [255, 255, 255, 0, 0, 0]),
    "palette of red and black": lambda m: palette(~m, [200, 0, 0, 0, 0, 0]),
    "opaque alpha": lambda m: grey(m).convert("RGBA"),
    "alpha of white": lambda m: Image.merge("RGBA", [grey(m | True)] * 3 + [grey(m)]),
    "alpha of black": lambda m: Image.merge("LA", [grey(m & False), grey(m)]),
    "alpha of white on transparent black": lambda m: Image.merge("RGBA", [grey(m)] * 4),
    "alpha of a photo": lambda m: Image.merge("RGBA", [*Image.fromarray(photo()).split(), grey(m)]),
    "alpha of black in 16 bits": lambda m: np.dstack([m[..., None] * [0, 0, 0, 65535]]).astype(
        "u2"
    ),
    **{
        f"{channels} channels of 16 bits to {white}": partial(deep, white=white, channels=channels)
        for white in (1, 255, 65535)
        for channels in (3, 4)
    },
}
OTHER_FORMATS = [
    *((f"{n} channels of 16 bits to {white}", "tiff") for n in (3, 4) for white in (1, 255, 65535)),
    *(("0 and 255", suffix) for suffix in ("bmp", "tiff", "gif", "webp")),
]


@pytest.mark.parametrize(("coding", "suffix"), [*((c, "png") for c in HARD), *OTHER_FORMATS])
def test_two_values_are_two_classes(tmp_path, coding, suffix):
    found = read_mask(save(tmp_path / f"m.{suffix}", HARD[coding](OBJECT), lossless=True))
    np.testing.assert_array_equal(found, OBJECT * np.uint8(255))
    assert found.dtype == np.uint8


@pytest.mark.parametrize("colour", [(255, 255, 255), (128, 0, 0), (128, 128, 128)])
@pytest.mark.parametrize("quality", [30, 75, 95])
def test_the_noise_of_jpeg_does_not_matter(tmp_path, colour, quality):
    large = OBJECT.repeat(8, 0).repeat(8, 1)
    picture = large[..., None] * np.array(colour, "uint8")
    path = save(tmp_path / "m.jpg", Image.fromarray(picture), quality=quality)
    assert np.mean((read_mask(path) > 127) == large) > 0.995
    assert read_mask(path)[large].mean() > 191


# --- soft masks and labels

CODINGS = {
    "8 bits": grey,
    "16 bits": lambda m: Image.fromarray(np.rint(m * 65535).astype("uint16")),
    "floats": lambda m: Image.fromarray(m.astype("float32")),
    "RGB": lambda m: grey(m).convert("RGB"),
    "palette": lambda m: grey(m).convert("P"),
    "grey and alpha": lambda m: grey(m).convert("LA"),
    "alpha": lambda m: Image.merge("LA", [grey(m * 0), grey(m)]),
    "red": lambda m: Image.merge("RGB", [grey(m), grey(m * 0), grey(m * 0)]),
}


@settings(max_examples=60, deadline=None)
@given(coding=st.sampled_from(sorted(CODINGS)), seed=st.integers(0, 2**32 - 1))
def test_soft_masks_read_the_same_in_any_coding(tmp_path_factory, coding, seed):
    root = tmp_path_factory.mktemp("mask")
    mask = np.random.default_rng(seed).random((5, 7))
    mask[0, 0] = 1
    Image.fromarray(photo(0, 5, 7)).save(root / "a.jpg")
    CODINGS[coding](mask).save(root / "a.tiff" if coding == "floats" else root / "a.png")
    read = read_pair(Sample("a", root / "a.jpg", next(root.glob("a.[pt]*"))))[1]
    assert read.dtype == np.uint8
    np.testing.assert_allclose(read, mask * 255, atol=0.5 + 1e-4)


def test_soft_edges_of_a_dim_object_are_the_objects(tmp_path):
    soft = np.array([[0, 32, 64, 128]], "uint8")
    found = read_mask(save(tmp_path / "m.png", Image.fromarray(soft)))
    np.testing.assert_allclose(found, soft / 128 * 255, atol=0.5)
    kept = np.array([[0, 51, 200]], "uint8")
    found = read_mask(save(tmp_path / "m.png", Image.fromarray(kept)))
    np.testing.assert_array_equal(found, kept)


@pytest.mark.parametrize(("value", "meaning"), [(0, 0), (1, 255), (255, 255), (128, 128)])
def test_a_mask_of_one_value_is_on_its_scale(tmp_path, value, meaning):
    path = save(tmp_path / "a.png", Image.fromarray(np.full((HEIGHT, WIDTH), value, "uint8")))
    assert np.unique(read_mask(path)).tolist() == [meaning]


@pytest.mark.parametrize("labels", [(1, 62), (38, 75, 113), (1001, 1002, 26001)])
def test_labels_of_large_numbers_fill_areas(tmp_path, labels):
    numbers = np.kron([0, *labels, 0], np.ones((5, 5))).astype("uint16")
    numbers = numbers if labels[-1] > 255 else numbers.astype("uint8")
    found = read_mask(save(tmp_path / "m.png", Image.fromarray(numbers)))
    np.testing.assert_array_equal(found, (numbers > 0) * 255)


@pytest.mark.parametrize("coding", ["grey", "16 bits", "palette", "colours"])
def test_labels_are_objects_but_for_the_first(tmp_path, coding):
    labels = np.array([[0, 1, 2, 3], [0, 0, 3, 1]], "uint8")
    colours = np.reshape(VOC, (-1, 3)).astype("uint8")
    image = {
        "grey": Image.fromarray(labels),
        "16 bits": Image.fromarray(labels.astype("uint16")),
        "palette": palette(labels, VOC),
        "colours": Image.fromarray(colours[labels]),
    }[coding]
    found = read_mask(save(tmp_path / "m.png", image))
    np.testing.assert_array_equal(found, (labels > 0) * 255)


# --- what cannot be told


@pytest.mark.parametrize("coding", ["0, 1, 255", "labels", "palette", "colours", "no background"])
def test_a_void_beside_labels_is_background_or_refused(tmp_path, coding):
    labels = np.array([[0, 1, 255], [0, 1, 1]], "uint8")
    if coding == "labels":
        labels = np.hstack([labels, labels * 2 % 254])
    if coding == "no background":
        labels = np.maximum(labels, 1)
    image = {
        "palette": palette(labels, VOC + [0] * 756),
        "colours": Image.fromarray(
            np.array([[0, 0, 0], [128, 0, 0], [224, 224, 192]], "uint8")[np.minimum(labels, 2)]
        ),
    }.get(coding, Image.fromarray(labels))
    save(tmp_path / "m.png", image)
    with pytest.raises(InputError, match=r"m\.png: .*void \(255\).* make it 0 \(background\)"):
        read_mask(tmp_path / "m.png")
    Image.fromarray(photo(0, *labels.shape)).save(tmp_path / "m.jpg")
    read = read_pair(Sample("m", tmp_path / "m.jpg", tmp_path / "m.png"))[1]
    np.testing.assert_array_equal(read, ((labels > 0) & (labels < 255)) * 255)


def test_photos_and_masks_of_two_kinds_at_once_are_refused(tmp_path):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), "uint8"))
    with pytest.raises(InputError, match="is a colour picture, not a mask"):
        read_mask(save(tmp_path / "m.png", picture))
    left = np.broadcast_to(np.arange(WIDTH) < WIDTH // 2, OBJECT.shape)
    both = Image.merge("LA", [grey(OBJECT), grey(left)])
    with pytest.raises(InputError, match="its colours and its alpha both vary"):
        read_mask(save(tmp_path / "m.png", both))


def test_a_lossy_mask_of_ones_is_refused(tmp_path):
    dark = Image.fromarray(OBJECT.astype("uint8") * 20)
    with pytest.raises(InputError, match="is too dark for a mask: its brightest level is"):
        read_mask(save(tmp_path / "m.jpg", dark, quality=95))


# --- all the rest


def test_exif_orientation_counts_for_masks_and_maps(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = np.rot90(OBJECT)
    path = save(tmp_path / "m.png", grey(np.ascontiguousarray(stored)), exif=exif)
    for read in (read_mask, read_map):
        np.testing.assert_array_equal(read(path) > 0, OBJECT)
