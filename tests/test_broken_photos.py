"""Files that are not what they say: damaged, cut, forged; each gives one line that names it."""

import os
import random
import struct
import threading

import numpy as np
import pytest
from PIL import Image

from datasets.maps import read_map
from datasets.masks import read_mask
from datasets.sod import Sample, check_files
from SCFNet.errors import InputError
from SCFNet.photos import opening
from SCFNet.photos.opening import large_photo
from SCFNet.photos.reading import read_image
from tests.conftest import encoded, read_bytes, write_png_header


def with_sides(data, height, width):
    """A JPEG file whose header names other sides."""
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def flipped(data):
    """A PNG file of which a bit of the picture is another."""
    at = data.index(b"IDAT") + 2004
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("name", "make", "fault"),
    [
        ("text.jpg", lambda cat: b"no picture", "is not an image"),
        ("empty.png", lambda cat: b"", "is empty"),
        ("folder.png", None, "is a folder"),
        ("missing.png", None, "does not exist"),
        ("nul\0.png", None, "null|does not exist"),
        ("bomb.jpg", lambda cat: with_sides(encoded(cat), 30000, 30000), "exceeds limit"),
        ("forged.jpg", lambda cat: with_sides(encoded(cat), 16000, 16000), "truncated: 16000 x"),
        ("huge.png", None, "exceeds limit of 256 million pixels"),
        ("script.eps", lambda cat: b"%!PS-Adobe-3.0 EPSF-3.0\n%%EOF\n", "is not an image"),
        ("flipped.png", lambda cat: flipped(encoded(cat, "PNG")), "cannot be read as an image"),
    ],
)
@pytest.mark.parametrize("read", [read_image, read_mask, read_map])
def test_a_broken_file_gives_one_line_that_names_it(tmp_path, cat, read, name, make, fault):
    path = tmp_path / name
    if name == "folder.png":
        path.mkdir()
    elif name == "huge.png":
        write_png_header(path, 16001)
    elif make:
        path.write_bytes(make(cat))
    with pytest.raises(InputError, match=fault) as caught:
        read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_does_not_hang(tmp_path):
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match="not a regular file"):
        read_image(pipe)
    with large_photo(pipe) as is_large:
        assert not is_large
    with pytest.raises(InputError, match="not a regular file"):
        check_files([Sample("pipe", pipe, None)])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
def test_a_file_without_permission_is_told(tmp_path):
    path = tmp_path / "a.png"
    path.touch()
    path.chmod(0)
    with pytest.raises(InputError, match="Permission denied"):
        read_image(path)


@pytest.mark.parametrize("coding", ["png", "webp", "lossless webp", "avif", "gif", "tiff"])
def test_other_formats_with_lost_data_are_refused(tmp_path, cat, coding):
    suffix = coding.split()[-1]
    options = {"tiff": {"compression": "tiff_lzw"}, "lossless webp": {"lossless": True}}
    data = encoded(cat, suffix.upper(), **options.get(coding, {}))
    path = tmp_path / f"a.{suffix}"
    if suffix == "webp":
        path.write_bytes(data + bytes(1 << 16))  # a disk's padding
        assert read_image(path).shape == (100, 150, 3)
    for part in (0.4, 0.8):
        at = int(part * len(data))
        for bad in (data[:at], data[:at] + bytes(len(data) - at)):
            path.write_bytes(bad)
            with pytest.raises(InputError, match=r"cannot be read as an image|is not an image"):
                read_image(path)


# --- bombs


FRAME = b"\xff\xc0\x00\x11\x08\x00\x10\x00\x10\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01"
COMMENT = b"\xff\xfe" + struct.pack(">H", len(FRAME) + 2) + FRAME


@pytest.mark.parametrize("hidden", [b"\xff\x01" + COMMENT, b"\xff\x02" + COMMENT, FRAME, b"\0\0"])
def test_a_header_that_hides_the_real_size_is_refused(cat, hidden):
    """TEM has no length: what follows looks like a small frame to those who think it has one."""
    data = with_sides(encoded(cat), 32000, 32000)
    at = data.index(b"\xff\xc0")
    with pytest.raises(InputError):
        read_bytes(data[:at] + hidden + data[at:])


def test_large_photos_are_worked_on_one_at_a_time(tmp_path, cat, monkeypatch):
    monkeypatch.setattr(opening, "LARGE_PIXELS", 100 * 150 - 1)
    (tmp_path / "large.jpg").write_bytes(encoded(cat))
    (tmp_path / "small.png").write_bytes(encoded(cat.resize((9, 9)), "PNG"))
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    done = []

    def work(name):
        with opening.large_photo(tmp_path / name):
            done.append(name)

    with opening.large_photo(tmp_path / "large.jpg"):
        read_image(tmp_path / "large.jpg")  # the thread that has the turn may read
        waiting = threading.Thread(target=work, args=["large.jpg"])
        waiting.start()
        for name in ("small.png", "broken.jpg", "missing.jpg"):
            other = threading.Thread(target=work, args=[name])
            other.start()
            other.join()
        assert done == ["small.png", "broken.jpg", "missing.jpg"]
    waiting.join()
    assert done[-1] == "large.jpg"


# --- any bytes


EXIF = Image.Exif()
EXIF[0x0112] = 6
SEEDS = [
    ("JPEG", "RGB", {"exif": EXIF}),
    ("JPEG", "CMYK", {"progressive": True}),
    ("PNG", "RGB", {"exif": EXIF}),
    ("PNG", "RGBA", {}),
    ("PNG", "P", {"transparency": 3}),
    ("PNG", "I;16", {}),
    ("BMP", "RGB", {}),
    ("GIF", "RGB", {"save_all": True, "append_images": [Image.new("RGB", (45, 30))]}),
    ("WEBP", "RGBA", {}),
    ("AVIF", "RGB", {}),
    ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    ("TIFF", "F", {}),
    ("TIFF", "RGB", {"compression": "jpeg"}),
]


def test_mutated_files_give_an_image_or_an_input_error(tmp_path, cat):
    dice = random.Random(0)
    outcomes = {True: 0, False: 0}
    path = tmp_path / "mutant"
    for file_format, mode, options in SEEDS:
        image = cat.resize((45, 30)).convert("I" if mode == "I;16" else mode).convert(mode)
        seed = encoded(image, file_format, **options)
        for _ in range(50):
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
                assert read_mask(path).dtype == np.uint8
            except InputError as error:
                assert "\n" not in str(error)
                outcomes[False] += 1
    assert min(outcomes.values()) > 100
