"""Reading and writing images: every kind of file, and every kind of broken file."""

import io
import os
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.files import InputError
from datasets.images import read_image, write_image, write_png
from datasets.masks import read_mask, read_mask_uint8

CAT = Path(__file__).parent / "data" / "chelsea.png"


@pytest.fixture
def photo():
    """RGB uint8 [30, 45, 3], smooth, so that JPEG keeps it nearly."""
    return np.asarray(Image.open(CAT).convert("RGB").resize((45, 30)))


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, photo, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = {
        1: photo,
        2: photo[:, ::-1],
        3: photo[::-1, ::-1],
        4: photo[::-1],
        5: photo.transpose(1, 0, 2),
        6: np.rot90(photo, 1),
        7: photo[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(photo, -1),
    }[orientation]
    path = save(tmp_path / "a.png", np.ascontiguousarray(stored), exif=exif)
    np.testing.assert_array_equal(read_image(path), photo)
    for name in ("a.jpg", "a.tiff", "a.webp"):
        path = save(tmp_path / name, np.ascontiguousarray(stored), exif=exif, quality=95)
        assert np.abs(read_image(path).astype(int) - photo).mean() < 4
    grey = save(tmp_path / "m.png", np.ascontiguousarray(stored[..., 0]), exif=exif)
    np.testing.assert_allclose(read_mask(grey), photo[..., 0] / 255, atol=1e-6)


def test_jpeg_pixels_are_pillows(tmp_path, photo):
    for mode in ("RGB", "L"):
        path = tmp_path / f"{mode}.jpg"
        Image.fromarray(photo).convert(mode).save(path)
        expected = np.asarray(Image.open(path).convert("RGB"))
        np.testing.assert_array_equal(read_image(path), expected)
        path.write_bytes(path.read_bytes() + b"a camera's own data")
        np.testing.assert_array_equal(read_image(path), expected)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".gif", ".webp", ".jpg"])
def test_formats(tmp_path, photo, suffix):
    path = save(tmp_path / f"a{suffix}", photo)
    image = read_image(path)
    assert image.shape == photo.shape and image.dtype == np.uint8 and image.flags.writeable
    lossless = suffix in (".png", ".bmp", ".tiff")
    difference = np.abs(image.astype(int) - photo)
    assert difference.max() == 0 if lossless else difference.mean() < 12


def test_grey_and_one_bit_and_cmyk(tmp_path, photo):
    grey = np.asarray(Image.fromarray(photo).convert("L"))
    np.testing.assert_array_equal(read_image(save(tmp_path / "g.png", grey)), np.dstack([grey] * 3))
    bits = grey > 100
    np.testing.assert_array_equal(
        read_image(save(tmp_path / "b.png", bits))[..., 0], bits * np.uint8(255)
    )
    path = tmp_path / "c.jpg"
    Image.fromarray(photo).convert("CMYK").save(path, quality=95)
    assert np.abs(read_image(path).astype(int) - photo).mean() < 6


def test_transparency_is_laid_over_white(tmp_path):
    rgba = np.zeros((2, 3, 4), "uint8")
    rgba[..., 0] = 200
    rgba[:, 1, 3] = 128
    rgba[:, 2, 3] = 255
    image = read_image(save(tmp_path / "a.png", rgba))
    np.testing.assert_array_equal(image[0], [[255] * 3, [227, 127, 127], [200, 0, 0]])

    grey_alpha = np.zeros((2, 2, 2), "uint8")
    grey_alpha[:, 1, 1] = 255
    path = tmp_path / "la.png"
    Image.fromarray(grey_alpha).save(path)
    np.testing.assert_array_equal(read_image(path)[0], [[255] * 3, [0] * 3])


@pytest.mark.parametrize("transparency", [0, b"\x00\xff"])
def test_palette_with_and_without_transparency(tmp_path, transparency):
    palette = Image.fromarray(np.array([[0, 1]], "uint8"), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_image(tmp_path / "p.png")[0], [[10, 20, 30], [40, 50, 60]])
    palette.save(tmp_path / "t.png", transparency=transparency)
    np.testing.assert_array_equal(
        read_image(tmp_path / "t.png")[0], [[255, 255, 255], [40, 50, 60]]
    )


def test_deep_images_are_scaled_not_clipped(tmp_path):
    deep = np.array([[0, 257 * 100, 65535]], "uint16")
    expected = [0, 100, 255]
    for name in ("a.png", "a.tiff"):
        path = save(tmp_path / name, deep)
        np.testing.assert_array_equal(read_image(path)[0], np.array([expected] * 3).T)
        np.testing.assert_allclose(read_mask(path)[0], np.array(expected) / 255, atol=1e-6)
    dark = save(tmp_path / "dark.png", np.array([[0, 255]], "uint16"))
    assert read_image(dark).max() == 1
    for scale in (1, 255):
        path = save(tmp_path / "f.tiff", np.array([[0, 0.4, 1]], "float32") * scale)
        np.testing.assert_array_equal(read_image(path)[0, :, 0], [0, 102, 255])


def test_16_bit_colour(tmp_path):
    import cv2

    deep = np.full((2, 2, 3), [257 * 10, 257 * 20, 257 * 30], "uint16")
    cv2.imwrite(str(tmp_path / "a.png"), deep)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[0, 0], [30, 20, 10])


def test_animated_gif_gives_the_first_frame(tmp_path):
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue", "green")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read_image(tmp_path / "a.gif")[0, 0], [255, 0, 0])


@pytest.mark.parametrize("shape", [(1, 1), (1, 4000), (4000, 1)])
def test_thin_images_and_non_ascii_paths(tmp_path, shape):
    folder = tmp_path / "фото 写真 ü"
    folder.mkdir()
    array = np.random.default_rng(0).integers(0, 256, (*shape, 3), "uint8")
    write_png(folder / "猫.png", array)
    np.testing.assert_array_equal(read_image(folder / "猫.png"), array)


def test_strips_equal_the_whole(tmp_path, photo, monkeypatch):
    path = save(tmp_path / "a.png", np.dstack([photo, photo[..., :1]]))
    whole = read_image(path)
    monkeypatch.setattr("datasets.images.STRIP_PIXELS", 100)
    np.testing.assert_array_equal(read_image(path), whole)


@pytest.mark.parametrize("top", [1, 255])
def test_mask_codings(tmp_path, top):
    mask = np.array([[0, 1], [1, 0]], "uint8")
    path = save(tmp_path / "m.png", mask * np.uint8(top))
    np.testing.assert_array_equal(read_mask(path), mask.astype("float32"))
    assert read_mask(path).dtype == np.float32
    np.testing.assert_array_equal(read_mask_uint8(path), mask * np.uint8(255))


def test_soft_mask_and_black_mask(tmp_path):
    soft = np.array([[0, 51, 255]], "uint8")
    np.testing.assert_allclose(read_mask(save(tmp_path / "s.png", soft)), [[0, 0.2, 1]], atol=1e-7)
    assert read_mask(save(tmp_path / "z.png", np.zeros((3, 3), "uint8"))).max() == 0


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_write_png_round_trip(tmp_path, channels):
    array = np.random.default_rng(1).integers(0, 256, (5, 7, channels), "uint8")
    array = array[..., 0] if channels == 1 else array
    write_png(tmp_path / "new" / "a.png", array)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "a.png")), array)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.png"]


def test_write_failures_name_the_file(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match=r"a\.png"):
        write_png(tmp_path / "file" / "a.png", np.zeros((2, 2), "uint8"))
    with pytest.raises(InputError, match="cannot be written: File name too long"):
        write_png(tmp_path / ("n" * 300 + ".png"), np.zeros((2, 2), "uint8"))
    with pytest.raises(InputError, match="70000 x 1 pixels are too many"):
        write_image(tmp_path / "a.jpg", np.zeros((1, 70000, 3), "uint8"))


def broken_files(folder):
    """(path, what its error says) for one broken file of each kind."""
    data = CAT.read_bytes()
    jpeg = io.BytesIO()
    Image.open(CAT).convert("RGB").save(jpeg, "JPEG")
    (folder / "text.jpg").write_text("no picture\n")
    (folder / "empty.png").write_bytes(b"")
    (folder / "cut.png").write_bytes(data[: len(data) // 2])
    (folder / "cut.jpg").write_bytes(jpeg.getvalue()[:5000])
    (folder / "folder.png").mkdir()
    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    chunk = (
        struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    )
    (folder / "bomb.png").write_bytes(data[:8] + chunk + data[33:])
    at = jpeg.getvalue().index(b"\xff\xc0") + 5
    sides = struct.pack(">HH", 30000, 30000)
    (folder / "bomb.jpg").write_bytes(jpeg.getvalue()[:at] + sides + jpeg.getvalue()[at + 4 :])
    (folder / "script.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    return [
        ("text.jpg", "is not an image"),
        ("empty.png", "is empty"),
        ("cut.png", "cannot be read as an image: .*truncated"),
        ("cut.jpg", "cannot be read as an image: .*truncated"),
        ("folder.png", "is a folder"),
        ("missing.png", "does not exist"),
        ("bomb.png", "exceeds limit"),
        ("bomb.jpg", "exceeds limit"),
        ("script.eps", "is not an image"),
        ("nul\0.png", "null|does not exist"),
    ]


def test_broken_files_give_one_line_that_names_them(tmp_path, recwarn):
    for name, fault in broken_files(tmp_path):
        for read in (read_image, read_mask):
            with pytest.raises(InputError, match=fault) as caught:
                read(tmp_path / name)
            assert str(tmp_path / name) in str(caught.value)
            assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputError, match="not a regular file"):
        read_image(tmp_path / "pipe.png")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
def test_an_unreadable_file(tmp_path, photo):
    path = save(tmp_path / "a.png", photo)
    path.chmod(0)
    with pytest.raises(InputError, match="Permission denied"):
        read_image(path)


def seeds_for_mutation(photo):
    """Valid small files of every format and mode, as bytes."""
    image = Image.fromarray(photo)
    exif = Image.Exif()
    exif[0x0112] = 6
    for file_format, mode, options in (
        ("JPEG", "RGB", {"exif": exif}),
        ("JPEG", "CMYK", {"progressive": True}),
        ("PNG", "RGB", {"exif": exif}),
        ("PNG", "RGBA", {}),
        ("PNG", "P", {"transparency": 3}),
        ("PNG", "I;16", {}),
        ("BMP", "RGB", {}),
        ("GIF", "RGB", {"save_all": True, "append_images": [image.rotate(90)]}),
        ("WEBP", "RGBA", {}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("TIFF", "F", {}),
        ("TIFF", "RGB", {"compression": "jpeg"}),
    ):
        stream = io.BytesIO()
        converted = image.convert("I").convert(mode) if mode == "I;16" else image.convert(mode)
        converted.save(stream, file_format, **options)
        yield stream.getvalue()


@pytest.mark.filterwarnings("ignore")  # as datasets.images does; pytest resets the filters
def test_mutated_files_give_an_image_or_an_input_error(tmp_path, photo):
    dice = random.Random(0)
    outcomes = {True: 0, False: 0}
    path = tmp_path / "mutant"
    for seed in seeds_for_mutation(photo):
        for _ in range(60):
            data = bytearray(seed)
            for _ in range(dice.choice((1, 3, 20))):
                data[dice.randrange(len(data))] = dice.choice((0, 1, 127, 255, dice.randrange(256)))
            if dice.random() < 0.3:
                del data[dice.randrange(len(data)) :]
            if dice.random() < 0.2:
                at = dice.randrange(len(data) + 1)
                data[at:at] = bytes(dice.randrange(256) for _ in range(8))
            path.write_bytes(data)
            try:
                image = read_image(path)
                assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8
                outcomes[True] += 1
                mask = read_mask(path)
                assert 0 <= mask.min() <= mask.max() <= 1
            except InputError as error:
                assert "\n" not in str(error)
                outcomes[False] += 1
    assert min(outcomes.values()) > 100
