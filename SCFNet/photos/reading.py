"""Reading a photo from any image file: upright, in sRGB, with its alpha."""

import contextlib
from typing import NamedTuple, Optional, Tuple

import numpy as np
from PIL import Image
from PIL.ExifTags import Base

from SCFNet.files import PathLike
from SCFNet.photos.colour import coded_colours, coded_to_srgb, pixels_to_srgb, to_srgb
from SCFNet.photos.depth import full_scale, is_deep, to_8_bits
from SCFNet.photos.opening import jpeg_pixels, loaded, open_unchecked, read_bytes
from SCFNet.photos.orientation import orientation_of, upright

STRIP_PIXELS = 4_000_000  # a photo is converted in strips of this many pixels
UNITS = {2: 1.0, 3: 2.54}  # EXIF's inch and centimetre: how many are an inch

Dpi = Tuple[int, int]


class Photo(NamedTuple):
    """A photo as its file has it: RGB uint8 [H, W, 3]; its own alpha, uint8 [H, W], or None if it
    is opaque; dots per inch, across and down, or None if the file does not say. Where alpha is 0
    the colours mean nothing.
    """

    image: np.ndarray
    alpha: Optional[np.ndarray]
    dpi: Optional[Dpi] = None


def read_image(path: PathLike) -> np.ndarray:
    """Read a photo, with what is transparent laid over white: RGB uint8 [H, W, 3].

    See `read_photo`, also for what is raised.
    """
    return opaque(read_photo(path))


def read_photo(path: PathLike, data: Optional[bytes] = None) -> Photo:
    """Read a photo, upright by its EXIF orientation, in sRGB by its ICC profile, and its alpha.

    `data` is what the file holds, if it is at hand: then `path` only names it in errors. Grey,
    palette, CMYK, 16-bit and float images are converted, and of an animation the first frame is
    taken. A broken profile, or broken EXIF data, counts for nothing. Raises InputError for a file
    that is missing, damaged, truncated, no image, or of more than 256 million pixels.
    """
    data = read_bytes(path) if data is None else data
    with open_unchecked(path, data) as opened:
        pixels = jpeg_pixels(data, opened)
        profile = opened.info.get("icc_profile") or b""
        if pixels is None or opened.mode == "CMYK":
            pixels = _to_rgb(loaded(data, opened), profile)
            if not profile:
                codes = coded_colours(data, opened.format)
                pixels[..., :3] = coded_to_srgb(pixels[..., :3], *codes)
        else:
            pixels = pixels_to_srgb(pixels, profile)
        orientation, dpi = orientation_of(opened), _dpi_of(opened)
    image = upright(pixels[..., :3], orientation)
    if pixels.shape[2] == 3 or pixels[..., 3].min() == 255:
        return Photo(image, None, dpi)
    return Photo(image, upright(pixels[..., 3], orientation), dpi)


def _dpi_of(image: Image.Image) -> Optional[Dpi]:
    """Return the resolution of an open photo; None if it has none, or a broken one."""
    with contextlib.suppress(Exception):
        exif = image.getexif()  # where WebP has it
        found = image.info.get("dpi") or [
            exif[tag] * UNITS[exif.get(Base.ResolutionUnit, 2)]
            for tag in (Base.XResolution, Base.YResolution)
        ]
        across, down = (round(float(value)) for value in found)
        if 0 < across < 65536 and 0 < down < 65536:
            return across, down
    return None


def opaque(photo: Photo) -> np.ndarray:
    """Lay what is transparent over white, as a network sees a photo: RGB uint8 [H, W, 3]."""
    return photo.image if photo.alpha is None else over_white(photo.image, photo.alpha)


def over_white(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Lay RGB uint8 [H, W, 3] over white by its alpha, uint8 [H, W]: a network's input."""
    result = np.empty_like(image)
    rows = max(1, STRIP_PIXELS // image.shape[1])
    for top in range(0, len(image), rows):
        strip = slice(top, top + rows)
        weight = alpha[strip, :, None].astype("uint16")
        result[strip] = (image[strip] * weight + 255 * (255 - weight) + 127) // 255
    return result


def _to_rgb(image: Image.Image, profile: bytes) -> np.ndarray:
    """Convert to RGB or RGBA uint8 [H, W, 3 or 4], without a second copy of a huge image."""
    width, height = image.size
    deep = is_deep(image)
    white = full_scale(image) if deep else 255.0
    alpha = not deep and image.has_transparency_data
    pixels = np.empty((height, width, 4 if alpha else 3), "uint8")
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        target = pixels[top : top + rows]
        if deep:
            strip = Image.fromarray(to_8_bits(np.asarray(strip), white))
        if alpha:
            target[..., 3] = np.asarray(strip.convert("RGBA").getchannel("A"))
            strip = strip.getchannel("L") if strip.mode == "LA" else strip.convert("RGBA")
        if strip.mode not in ("L", "CMYK"):
            strip = strip.convert("RGB")
        target[..., :3] = np.asarray(to_srgb(strip, profile))
    return pixels
