"""Reading photos, of every format, depth, colour space and orientation, and writing pictures."""

import io
import struct
import sys

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from SCFNet.errors import InputError
from SCFNet.photos.reading import read_image, read_photo
from SCFNet.photos.writing import write_image, write_png
from tests.conftest import CHELSEA, DATA

WIDE = (DATA / "wide.icc").read_bytes()  # a profile with the primaries of Display P3


@pytest.fixture
def photo():
    """RGB uint8 [30, 45, 3], smooth, so that JPEG keeps it nearly."""
    return np.asarray(Image.open(CHELSEA).convert("RGB").resize((45, 30)))


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, photo, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(
        {
            1: photo,
            2: photo[:, ::-1],
            3: photo[::-1, ::-1],
            4: photo[::-1],
            5: photo.transpose(1, 0, 2),
            6: np.rot90(photo, 1),
            7: photo[::-1, ::-1].transpose(1, 0, 2),
            8: np.rot90(photo, -1),
        }[orientation]
    )
    path = save(tmp_path / "a.png", stored, exif=exif)
    np.testing.assert_array_equal(read_image(path), photo)
    rgba = np.dstack([stored, stored[..., 0]])  # alpha is turned with its photo
    found = read_photo(save(tmp_path / "b.png", rgba, exif=exif))
    np.testing.assert_array_equal(found.alpha, photo[..., 0])
    for name in ("a.jpg", "a.tiff", "a.webp", "a.avif"):
        path = save(tmp_path / name, stored, exif=exif, quality=95)
        assert np.abs(read_image(path).astype(int) - photo).mean() < 4


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4])  # SHORT and LONG
def test_exif_orientation_in_any_byte_order_and_type(tmp_path, photo, order, kind):
    value = struct.pack(order + ("H2x" if kind == 3 else "I"), 6)
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    tag = struct.pack(order + "HHHI", 1, 0x0112, kind, 1) + value + bytes(4)
    path = save(tmp_path / "a.jpg", photo, exif=b"Exif\0\0" + start + tag)
    assert read_image(path).shape == (45, 30, 3)


EXACT = [("RGB", "png"), ("RGB", "bmp"), ("RGB", "tiff"), ("L", "png"), ("1", "png")]


@pytest.mark.parametrize(
    ("mode", "suffix"), [*EXACT, ("RGB", "gif"), ("RGB", "webp"), ("RGB", "jpg"), ("CMYK", "jpg")]
)
def test_common_formats_and_modes_become_rgb(tmp_path, photo, mode, suffix):
    converted = Image.fromarray(photo).convert(mode)
    converted.save(tmp_path / f"a.{suffix}", **({"quality": 95} if mode == "CMYK" else {}))
    image = read_image(tmp_path / f"a.{suffix}")
    assert image.shape == photo.shape and image.dtype == np.uint8 and image.flags.writeable
    difference = np.abs(image.astype(int) - np.asarray(converted.convert("RGB")))
    if (mode, suffix) in EXACT:
        assert difference.max() == 0
    else:
        assert difference.mean() < (6 if mode == "CMYK" else 12)


def test_a_photo_keeps_its_colours_beside_its_alpha_and_is_laid_over_white(tmp_path):
    rgba = np.zeros((2, 3, 4), "uint8")
    rgba[..., 0], rgba[:, 1:, 3] = 200, (128, 255)
    path = save(tmp_path / "a.png", rgba)
    found = read_photo(path)
    np.testing.assert_array_equal(found.image, rgba[..., :3])
    np.testing.assert_array_equal(found.alpha, rgba[..., 3])
    np.testing.assert_array_equal(read_image(path)[0], [[255] * 3, [227, 127, 127], [200, 0, 0]])
    rgba[..., 3] = 255
    assert read_photo(save(tmp_path / "a.png", rgba)).alpha is None
    assert read_photo(save(tmp_path / "a.jpg", rgba[..., :3].copy())).alpha is None
    path = save(tmp_path / "la.png", np.array([[[0, 0], [0, 255]]], "uint8"))
    np.testing.assert_array_equal(read_image(path)[0], [[255] * 3, [0] * 3])


@pytest.mark.parametrize("options", [{}, {"transparency": 0}, {"transparency": b"\x00\xff"}])
def test_palette_with_and_without_transparency(tmp_path, options):
    palette = Image.fromarray(np.array([[0, 1]], "uint8"), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.save(tmp_path / "p.png", **options)
    first = [255] * 3 if options else [10, 20, 30]
    np.testing.assert_array_equal(read_image(tmp_path / "p.png")[0], [first, [40, 50, 60]])


def test_deep_images_are_scaled_not_clipped(tmp_path):
    deep = np.array([[0, 257 * 100, 65535]], "uint16")
    expected = [0, 100, 255]
    for name in ("a.png", "a.tiff"):
        path = save(tmp_path / name, deep)
        np.testing.assert_array_equal(read_image(path)[0], np.array([expected] * 3).T)
    bgr = np.full((2, 2, 3), [257 * 10, 257 * 20, 257 * 30], "uint16")
    cv2.imwrite(str(tmp_path / "colours.png"), bgr)
    np.testing.assert_array_equal(read_image(tmp_path / "colours.png")[0, 0], [30, 20, 10])
    dark = save(tmp_path / "dark.png", np.array([[0, 255]], "uint16"))
    assert read_image(dark).max() == 1
    for scale in (1, 255):
        path = save(tmp_path / "f.tiff", np.array([[0, 0.4, 1]], "float32") * scale)
        np.testing.assert_array_equal(read_image(path)[0, :, 0], [0, 102, 255])


@pytest.mark.parametrize("shape", [(1, 1), (4000, 1), (1, 1_100_000)])
def test_thin_images_and_non_ascii_paths(tmp_path, shape):
    folder = tmp_path / "фото 写真 ü"
    folder.mkdir()
    array = np.random.default_rng(0).integers(0, 256, (*shape, 3), "uint8")
    write_png(folder / "猫.png", array)
    np.testing.assert_array_equal(read_image(folder / "猫.png"), array)
    assert [path.name for path in folder.iterdir()] == ["猫.png"]


def test_strips_equal_the_whole(tmp_path, photo, monkeypatch):
    path = save(tmp_path / "a.png", np.dstack([photo, photo[..., :1]]))
    whole = read_image(path)
    monkeypatch.setattr("SCFNet.photos.reading.STRIP_PIXELS", 100)
    np.testing.assert_array_equal(read_image(path), whole)


def test_write_failures_name_the_file(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match=r"a\.png"):
        write_png(tmp_path / "file" / "a.png", np.zeros((2, 2), "uint8"))
    with pytest.raises(InputError, match="cannot be written: File name too long"):
        write_png(tmp_path / ("n" * 300 + ".png"), np.zeros((2, 2), "uint8"))
    with pytest.raises(InputError, match="70000 x 1 pixels are too many"):
        write_image(tmp_path / "a.jpg", np.zeros((1, 70000, 3), "uint8"))


# --- colour


def in_srgb(image, mode="RGB"):
    """The colours of `image` in WIDE, as littleCMS converts them."""
    screen = ImageCms.createProfile("sRGB")
    wide = ImageCms.getOpenProfile(io.BytesIO(WIDE))
    return np.asarray(ImageCms.profileToProfile(image, wide, screen, outputMode="RGB"))


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "avif"])
def test_a_photo_in_another_colour_space_becomes_srgb(tmp_path, photo, suffix):
    path = save(tmp_path / f"a.{suffix}", photo, icc_profile=WIDE, quality=95)
    stored = Image.open(path).convert("RGB")
    assert np.abs(in_srgb(stored).astype(int) - np.asarray(stored)).max() > 10
    np.testing.assert_array_equal(read_image(path), in_srgb(stored))


def test_transparent_and_palette_photos_become_srgb(tmp_path, photo):
    alpha = np.full((30, 45, 1), 100, "uint8")
    path = save(tmp_path / "a.png", np.dstack([photo, alpha]), icc_profile=WIDE)
    found = read_photo(path)
    np.testing.assert_array_equal(found.image, in_srgb(Image.fromarray(photo)))
    assert (found.alpha == 100).all()
    palette = Image.fromarray(photo).quantize(16)
    palette.save(tmp_path / "p.png", icc_profile=WIDE)
    np.testing.assert_array_equal(read_image(tmp_path / "p.png"), in_srgb(palette.convert("RGB")))


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_srgb_and_broken_profiles_and_those_of_other_spaces_change_nothing(tmp_path, photo, suffix):
    plain = read_image(save(tmp_path / f"plain.{suffix}", photo))
    screen = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for profile in (screen, lab, WIDE[:200], b"no profile", bytes(600)):
        path = save(tmp_path / f"a.{suffix}", photo, icc_profile=profile)
        np.testing.assert_array_equal(read_image(path), plain)
    grey = save(tmp_path / f"g.{suffix}", photo[..., 0], icc_profile=WIDE)
    np.testing.assert_array_equal(read_image(grey), np.asarray(Image.open(grey).convert("RGB")))


def test_a_profile_in_two_parts_is_put_together(tmp_path, photo):
    plain = save(tmp_path / "a.jpg", photo, quality=95).read_bytes()
    parts = b""
    for number, part in ((2, WIDE[200:]), (1, WIDE[:200])):
        body = b"ICC_PROFILE\0" + bytes([number, 2]) + part
        parts += b"\xff\xe2" + struct.pack(">H", len(body) + 2) + body
    (tmp_path / "b.jpg").write_bytes(plain[:2] + parts + plain[2:])
    expected = in_srgb(Image.open(tmp_path / "a.jpg"))
    np.testing.assert_array_equal(read_image(tmp_path / "b.jpg"), expected)


# --- TIFF


def as_tiff(path, array, photometric="rgb", planes=False, **options):
    """Write [H, W] or [H, W, C] uncompressed."""
    planar = ("separate" if planes else "contig") if array.ndim == 3 else None
    array = np.moveaxis(array, -1, 0) if planes else array
    tifffile.imwrite(path, array, photometric=photometric, planarconfig=planar, **options)
    return path


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32", "float64"])
def test_tiff_colours_are_right_or_refused_by_name(tmp_path, photo, kind, planes, order):
    white = {"uint8": 1, "uint16": 257}.get(kind, 1 / 255)
    deep = (photo.astype(float) * white).astype(kind)
    path = as_tiff(tmp_path / "a.tif", deep, planes=planes, byteorder=order)
    if planes and kind.startswith("float"):
        with pytest.raises(InputError, match=r"is a TIFF of 3 x .*-bit float samples in planes"):
            read_image(path)
    else:
        np.testing.assert_array_equal(read_image(path), photo)


@pytest.mark.parametrize(("unit", "dpi"), [(1, None), (2, (100, 50)), (3, (254, 127))])
@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_a_tiffs_resolution_is_in_dots_per_inch(tmp_path, photo, kind, unit, dpi):
    dots = {"resolution": (100, 50), "resolutionunit": unit}
    assert read_photo(as_tiff(tmp_path / "a.tif", photo.astype(kind), **dots)).dpi == dpi


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_tiff_with_white_as_zero_is_inverted(tmp_path, photo, kind):
    grey = photo[..., 0]
    deep = grey if kind == "uint8" else grey.astype("uint16") * 257
    path = as_tiff(tmp_path / "a.tif", deep, "miniswhite")
    np.testing.assert_array_equal(read_image(path)[..., 0], 255 - grey)


@pytest.mark.parametrize(
    ("pixels", "fault"),
    [
        ([0, 0.5, np.nan], "its pixels are not all numbers"),
        ([0, 0.5, np.inf], "its pixels are not all numbers"),
        ([-2, -1, -0.5], "its pixels are negative"),
    ],
)
def test_pixels_that_are_no_light_are_refused(tmp_path, pixels, fault):
    path = as_tiff(tmp_path / "a.tif", np.array([pixels], "float32"), "minisblack")
    with pytest.raises(InputError, match=fault):
        read_image(path)


# --- formats that need a package


def test_jfif_and_jpe_are_jpeg_by_content_as_is_any_name(tmp_path, photo):
    expected = read_image(save(tmp_path / "a.jpg", photo))
    for name in ("a.jfif", "a.JPE", "a.png", "a"):
        (tmp_path / name).write_bytes((tmp_path / "a.jpg").read_bytes())
        np.testing.assert_array_equal(read_image(tmp_path / name), expected)


def test_heic_is_read_with_its_package_and_named_without(tmp_path, photo, monkeypatch):
    path = tmp_path / "IMG.HEIC"
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as if it were not installed
    for brands in (b"heic\0\0\0\0mif1heic", b"mif1\0\0\0\0mif1heic"):
        path.write_bytes(b"\0\0\0\x18ftyp" + brands)
        with pytest.raises(InputError, match=r"is a HEIC photo, .*: pip install pillow-heif"):
            read_image(path)
    monkeypatch.undo()
    heif = pytest.importorskip("pillow_heif")
    heif.from_bytes("RGB", (45, 30), photo.tobytes()).save(path, quality=95)
    assert np.abs(read_image(path).astype(int) - photo).mean() < 6
