"""TIFF files that Pillow reads wrong or not at all: floats, planes of 16 bits, white as zero."""

import io
from typing import NamedTuple, Optional, Tuple, Union

import cv2
import numpy as np
from PIL import Image

from SCFNet.errors import InputError
from SCFNet.files import PathLike
from SCFNet.photos.depth import check_numbers, to_8_bits, white_of

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

WIDTH, HEIGHT, BITS, PHOTOMETRIC, ORIENTATION = 256, 257, 258, 262, 274
SAMPLES, PLANAR, FORMAT = 277, 284, 339
KINDS = {1: "unsigned", 2: "signed", 3: "float"}


class Layout(NamedTuple):
    """How a TIFF file keeps its pixels."""

    width: int
    height: int
    samples: int
    bits: int
    kind: str
    planar: bool
    white_is_zero: bool
    orientation: int

    def __str__(self) -> str:
        white = ", white is zero" if self.white_is_zero else ""
        planes = " in planes" if self.planar else ""
        return f"{self.samples} x {self.bits}-bit {self.kind} samples{planes}{white}"


def open_unusual(path: PathLike, data: bytes, most_pixels: int) -> Optional[Image.Image]:
    """Open a TIFF file which Pillow gets wrong; None for any other file.

    Colours become RGB or RGBA of 8 bits, grey keeps its depth. Raises InputError, which names the
    layout, if OpenCV gets it wrong too, and for more than `most_pixels`.
    """
    layout = _read_layout(data)
    if layout is None or _pillow_reads(layout):
        return None
    flags = _opencv_flags(layout)
    pixels = None
    if flags is not None and layout.width * layout.height <= most_pixels:
        pixels = cv2.imdecode(np.frombuffer(data, "uint8"), flags)
    if pixels is None:
        raise InputError(f"{path}: is a TIFF of {layout}: save it with 8 bits a sample")
    return _as_image(65535 - pixels if layout.white_is_zero else pixels)


def _read_layout(data: bytes) -> Optional[Layout]:
    """Read the layout from the tags of the first picture; None if the file is no TIFF, or is
    damaged.
    """
    start = data[:8]
    if not start.startswith(STARTS):
        return None
    from PIL import TiffImagePlugin  # 14 ms that no other file needs

    if b"+" in start[:4]:
        start = data[:16]
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(start)
        stream = io.BytesIO(data)
        stream.seek(tags.next)
        tags.load(stream)
        bits, kinds = tags.get(BITS, (1,)), tags.get(FORMAT, (1,))
        return Layout(
            width=tags[WIDTH],
            height=tags[HEIGHT],
            samples=tags.get(SAMPLES, 1),
            bits=max(_numbers(bits)),
            kind=KINDS.get(max(_numbers(kinds)), "unsigned"),
            planar=tags.get(PLANAR, 1) == 2 and tags.get(SAMPLES, 1) > 1,
            white_is_zero=tags.get(PHOTOMETRIC) == 0,
            orientation=tags.get(ORIENTATION, 1),
        )
    except Exception:  # the fault is for Pillow to tell
        return None


def _numbers(value: Union[int, Tuple[int, ...]]) -> Tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)


def _pillow_reads(layout: Layout) -> bool:
    if layout.kind == "unsigned" and layout.bits <= 8:
        return not (layout.planar and layout.samples == 2)
    if layout.planar or layout.white_is_zero:
        return False
    if layout.kind == "float":
        return layout.samples == 1 and layout.bits == 32
    return layout.bits > 8 and (layout.kind == "unsigned" or layout.samples == 1)


def _opencv_flags(layout: Layout) -> Optional[int]:
    """Choose the flags by which OpenCV reads it right; None if it does not."""
    if layout.orientation != 1:
        return None
    if layout.kind == "unsigned" and layout.bits == 16:
        if layout.samples == 1:
            return cv2.IMREAD_UNCHANGED
        return cv2.IMREAD_COLOR if layout.samples == 3 and not layout.white_is_zero else None
    if layout.kind != "float" or layout.planar or layout.white_is_zero:
        return None
    return cv2.IMREAD_UNCHANGED if layout.bits in (32, 64) and layout.samples != 2 else None


def _as_image(pixels: np.ndarray) -> Image.Image:
    """Make an image of what OpenCV decoded: grey [H, W], or BGR or BGRA [H, W, 3 or 4]."""
    check_numbers(pixels)
    if pixels.ndim == 2:
        return Image.fromarray(pixels if pixels.dtype == np.uint16 else pixels.astype("float32"))
    if pixels.dtype != np.uint8:
        whites = [white_of(pixels[..., :3].max())] * 3 + [white_of(pixels[..., 3:].max(initial=0))]
        pixels = to_8_bits(pixels, np.array(whites[: pixels.shape[2]]))
    code = cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return Image.fromarray(cv2.cvtColor(pixels, code))
