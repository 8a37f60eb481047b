"""JPEG files of which a part is lost are refused; whole ones, however odd, never are."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from SCFNet.errors import InputError
from SCFNet.photos import jpeg
from tests.conftest import encoded, read_bytes

pytest.importorskip("simplejpeg")  # without it Pillow reads, which sees less damage
END = b"\xff\xd9"  # of a JPEG file
NOISE = np.random.default_rng(3).bytes(30000)


JPEGS = {
    "baseline": {},
    "best tables": {"optimize": True},
    "progressive": {"progressive": True},
    "full colour": {"subsampling": 0},
    "restarts": {"restart_marker_rows": 1},
}


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("part", [0.2, 0.7])
def test_a_jpeg_that_lacks_a_part_is_refused(cat, kind, mode, part):
    data = encoded(cat.convert(mode), quality=90, **JPEGS[kind])
    begin = data.index(b"\xff\xda") + 14
    at = begin + int(part * (len(data) - begin))
    rest = len(data) - at
    damaged = {
        "cut": data[:at],
        "cut, with an end": data[:at] + END,
        "zeros": data[:at] + bytes(rest),
        "zeros, with an end": data[:at] + bytes(rest - 2) + END,
        "more zeros": data[:at] + bytes(20 * rest) + END,
        "erased": data[:at] + b"\xff" * (rest - 2) + END,
        "cut, with a preview": data[:at] + encoded(cat.resize((20, 20))),
        "cut, with noise": data[:at] + NOISE,
    }
    if mode == "RGB" and kind != "progressive":
        damaged["a hole"] = data[:at] + b"\xff" * 512 + data[at + 512 :]
        damaged["a part is left out"] = data[:at] + data[at + 1000 :]
    if mode == "RGB" and kind == "restarts":
        places = [found.start() for found in re.finditer(rb"\xff[\xd0-\xd7]", data)]
        damaged["no restarts"] = re.sub(rb"\xff[\xd0-\xd7]", b"", data)
        damaged["a restart is left out"] = data[: places[1]] + data[places[2] :]
    for name, bad in damaged.items():
        with pytest.raises(InputError, match="cannot be read as an image") as caught:
            read_bytes(bad)
            pytest.fail(name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("content", ["photo", "half white", "half grey", "grey"])
@pytest.mark.parametrize(
    ("mode", "decoder"),
    [("RGB", jpeg.simplejpeg), ("L", jpeg.simplejpeg), ("RGB", None), ("L", None)],
)
def test_a_whole_jpeg_is_never_refused(monkeypatch, cat, kind, content, mode, decoder):
    monkeypatch.setattr(jpeg, "simplejpeg", decoder)
    image = cat.copy()
    if content != "photo":
        colour = (255,) * 3 if content == "half white" else (128,) * 3
        image.paste(colour, (0, 0 if content == "grey" else 20, 150, 100))
    image = image.resize((450, 290), Image.Resampling.NEAREST).convert(mode)
    data = encoded(image, **JPEGS[kind])
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    for name, whole in {
        "plain": data,
        "no end": data[:-2],
        "more behind it": data + b"a camera's own data" + bytes(5000) + data,
        "a preview, no end": data[:-2] + encoded(image.resize((20, 20))),
        "a phone's block, no end": data[:-2] + b"\0\0\1\x0aImage_UTC" + data + b"SEFT",
        "a video, no end": data[:-2] + b"\0\0\0\x18ftypmp42" + NOISE,
        "noise, no end": data[:-2] + NOISE,
        "text, no end": data[:-2] + b"a camera's own data",
        "a later JFIF": data.replace(b"JFIF\0\1", b"JFIF\0\7"),
        "a byte in the header": data[:20] + b"\0" + data[20:],
        "zeros before the end": data[:-2] + b"\x5a" + bytes(500) + END,
        "a byte before the end": data[:-2] + b"\x5a" + END,
        "bytes before the end": data[:-2] + b"\x5a" * 12 + END,
        "a part of a profile": data[:2] + b"\xff\xe2\0\x14ICC_PROFILE\0\2\5part" + data[2:],
        "fill bytes in the header": data[:2] + b"\xff" * 5 + data[2:],
    }.items():
        np.testing.assert_array_equal(read_bytes(whole), expected, err_msg=name)


def test_a_jpeg_of_very_many_scans_is_refused(cat):
    data = encoded(cat, progressive=True)
    at = data.rindex(b"\xff\xda")
    with pytest.raises(InputError, match="more than 100 scans"):
        read_bytes(data[:at] + (data[at:-2]) * 120 + END)
