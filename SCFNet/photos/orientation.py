"""Which way up a photo is: EXIF says it, in every format; XMP counts for nothing."""

import contextlib

import numpy as np
from PIL import Image
from PIL.ExifTags import Base

XMP = ("xmp", "XML:com.adobe.xmp")  # Pillow's names; what it holds would turn the picture


def orientation_of(image: Image.Image) -> object:
    """Return EXIF's number for which way up a decoded image is; 1, upright, if EXIF is broken."""
    with contextlib.suppress(Exception):
        return image.getexif().get(Base.Orientation, 1)
    return 1


def forget_xmp(image: Image.Image) -> None:
    """Drop what XMP says of an image that was opened, before Pillow turns the picture by it."""
    for name in XMP:
        image.info.pop(name, None)


def upright(pixels: np.ndarray, orientation: object) -> np.ndarray:
    """Turn and mirror pixels [H, W, ...] by EXIF's orientation; others than 1 to 8 do nothing."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
