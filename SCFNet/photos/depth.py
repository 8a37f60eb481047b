"""Pixels of more than 8 bits: what counts as white in them, how they become 8 bits, and TIFFs."""

from typing import Any, Optional, Union

import cv2
import numpy as np
from PIL import Image
from PIL.ExifTags import Base

from SCFNet.errors import InputError
from SCFNet.files import PathLike

WHITES = (1.0, 255.0, 65535.0)

# Where the parts of a TIFF begin, and how many bytes they are.
STRIPS = Base.StripOffsets, Base.StripByteCounts
TILES = Base.TileOffsets, Base.TileByteCounts
RESOLUTION = Base.XResolution, Base.YResolution, Base.ResolutionUnit
WHITE_IS_ZERO, IN_PLANES = 0, 2
KINDS = {1: "unsigned", 2: "signed", 3: "float"}


def white_of(largest: float) -> float:
    """Return the customary white, of 1, 255 and 65535, that `largest` does not exceed; else
    `largest`.
    """
    return next((white for white in WHITES if largest <= white), float(largest))


def check_numbers(pixels: np.ndarray) -> None:
    """Raise ValueError if some of the pixels are NaN or infinite, or all are negative numbers."""
    if not np.isfinite(pixels).all():
        raise ValueError("its pixels are not all numbers")
    if pixels.size and pixels.max() < 0:
        raise ValueError("its pixels are negative")


def to_8_bits(pixels: np.ndarray, white: Union[float, np.ndarray]) -> np.ndarray:
    """Scale to uint8 of the same shape: 0 stays, `white` becomes 255, the rest is clipped."""
    return np.rint(np.clip(pixels / np.float32(white), 0, 1) * 255).astype("uint8")


def is_deep(image: Image.Image) -> bool:
    """Return whether the pixels are grey of more than 8 bits, which Pillow clips, not scales."""
    return image.mode.startswith("I") or image.mode == "F"


def full_scale(image: Image.Image) -> float:
    """Return the value that stands for white in a photo of deep grey.

    Raises ValueError for a TIFF whose white is not known, and for pixels that are no numbers.
    """
    if image.mode.startswith("I;16"):
        return 65535.0
    if image.format == "TIFF" and image.mode == "I":
        raise ValueError("a TIFF of signed or 32-bit integers: save it with 8 or 16 bits a sample")
    pixels = np.asarray(image)
    check_numbers(pixels)
    return white_of(pixels.max())


def read_deep_tiff(path: PathLike, data: bytes, tags: Any) -> Optional[Image.Image]:
    """Read a TIFF that Pillow gets wrong, as planes, floats and white as zero; return None if
    Pillow is right.

    `path` names it in errors, `tags` are its first picture's. Floats become RGB or RGBA of 8 bits,
    or grey of mode F. Raises InputError, which names the layout, if OpenCV gets it wrong too.
    """
    bits = np.max(tags.get(Base.BitsPerSample, 1))
    kind = KINDS.get(np.max(tags.get(Base.SampleFormat, 1)), "unsigned")
    samples = tags.get(Base.SamplesPerPixel, 1)
    planes = samples > 1 and tags.get(Base.PlanarConfiguration) == IN_PLANES
    inverted = tags.get(Base.PhotometricInterpretation) == WHITE_IS_ZERO
    if kind == "unsigned" and bits <= 8:
        return None
    plain = not planes and not inverted and samples in (1, 3, 4)
    if plain and kind != "float" and (samples == 1 or (kind, bits) == ("unsigned", 16)):
        return None
    if any(_ends_after(data, tags, *places) for places in (STRIPS, TILES)):
        raise InputError(f"{path}: cannot be read as an image: truncated")
    pixels = None
    if (kind, bits) == ("unsigned", 16) and samples in (1, 3):
        pixels = _by_opencv(data, cv2.IMREAD_COLOR)
    elif kind == "float" and bits in (32, 64) and plain:
        pixels = _by_opencv(data, cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise InputError(
            f"{path}: is a TIFF of {samples} x {bits}-bit {kind} samples{' in planes' * planes}"
            f"{', white is zero' * inverted}: save it with 8 bits a sample"
        )
    image = _as_image(pixels)
    image.getexif().update({tag: tags[tag] for tag in RESOLUTION if tag in tags})
    return image


def _ends_after(data: bytes, tags: Any, offsets: int, counts: int) -> bool:
    """Return whether a part of the picture lies behind the end of the file."""
    places = zip(*(np.atleast_1d(tags.get(tag, ())).tolist() for tag in (offsets, counts)))
    return any(start + count > len(data) for start, count in places)


def _by_opencv(data: bytes, flags: int) -> Optional[np.ndarray]:
    log = cv2.utils.logging
    level = log.setLogLevel(0)  # the caller says what is wrong
    try:
        return cv2.imdecode(np.frombuffer(data, "uint8"), flags)
    finally:
        log.setLogLevel(level)


def _as_image(pixels: np.ndarray) -> Image.Image:
    """Make an image of what OpenCV decoded: grey [H, W], or BGR or BGRA [H, W, 3 or 4]."""
    check_numbers(pixels)
    if pixels.ndim == 2:
        return Image.fromarray(pixels.astype("float32"))
    if pixels.dtype != np.uint8:
        whites = [white_of(pixels[..., :3].max())] * 3 + [white_of(pixels[..., 3:].max(initial=0))]
        pixels = to_8_bits(pixels, np.array(whites[: pixels.shape[2]]))
    code = cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return Image.fromarray(cv2.cvtColor(pixels, code))
