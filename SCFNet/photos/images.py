"""Reading photos from any image file, and writing pictures."""

import io
import os
from pathlib import Path
from typing import NamedTuple, Optional

import cv2
import numpy as np
from PIL import Image

from SCFNet.errors import InputError
from SCFNet.files import PathLike, write_atomically
from SCFNet.photos import jpeg
from SCFNet.photos.colour import pixels_to_srgb, to_srgb
from SCFNet.photos.damage import Damaged
from SCFNet.photos.decoding import (
    MOST_BYTES,
    check_pixels,
    in_turn,
    open_image,
    orientation_of,
    upright,
)
from SCFNet.photos.depth import check_numbers, to_8_bits, white_of

# A sixth faster than OpenCV's defaults for soft maps, and a little smaller.
PNG_OPTIONS = [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]
OPTIONS = {".png": PNG_OPTIONS, ".webp": [cv2.IMWRITE_WEBP_QUALITY, 90]}

STRIP_PIXELS = 4_000_000  # a photo is converted in strips of this many pixels


class Photo(NamedTuple):
    """A photo as its file has it: RGB uint8 [H, W, 3], and its own alpha, uint8 [H, W], or None if
    it is opaque. Where alpha is 0 the colours mean nothing.
    """

    image: np.ndarray
    alpha: Optional[np.ndarray]


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
    image = _read_jpeg(path, read_if(path, jpeg.START) if data is None else data)
    if image is not None:
        return Photo(image, None)
    with open_image(path, data) as opened:
        pixels = _to_rgb(opened)
        orientation = orientation_of(opened)
    image = upright(pixels[..., :3], orientation)
    if pixels.shape[2] == 3 or pixels[..., 3].min() == 255:
        return Photo(image, None)
    return Photo(image, upright(pixels[..., 3], orientation))


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


def write_image(path: PathLike, image: np.ndarray) -> None:
    """Write uint8 [H, W] grey, [H, W, 3] RGB or [H, W, 4] RGBA in the format of the suffix of
    `path`, '.png' or '.jpg', atomically. Raises InputError if that fails.
    """
    write_atomically(path, encode_image(path, image), flush=False)


def encode_image(path: PathLike, image: np.ndarray) -> bytes:
    """Encode what `write_image` writes to `path`; raises InputError as it does."""
    suffix = Path(path).suffix
    height, width = image.shape[:2]
    if suffix == ".jpg" and max(height, width) > 65500:
        raise InputError(f"{path}: {width} x {height} pixels are too many for a JPEG file")
    if suffix == ".png" and max(height, width) > 1_000_000:  # libpng's limit, but not PNG's
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "PNG")
        return stream.getvalue()
    if image.ndim == 3:
        code = cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR
        image = cv2.cvtColor(image, code)
    done, encoded = cv2.imencode(suffix, image, OPTIONS.get(suffix, []))
    if not done:
        raise InputError(f"{path}: {width} x {height} pixels cannot be written as {suffix}")
    return encoded.tobytes()


def write_png(path: PathLike, image: np.ndarray) -> None:
    """Do `write_image` for a path that ends in '.png'."""
    write_image(path, image)


def _read_jpeg(path: PathLike, data: Optional[bytes]) -> Optional[np.ndarray]:
    """Decode a grey or YCbCr JPEG file by OpenCV, for speed; None for any other file."""
    header = jpeg.read_header(data) if data and data.startswith(jpeg.START) else None
    if not data or not header or header.channels not in (1, 3):
        return None
    check_pixels(path, header.width, header.height)
    with in_turn(header.width * header.height):
        try:
            pixels = jpeg.decode(data, header)
        except Damaged as error:
            raise InputError(f"{path}: cannot be read as an image: {error}") from error
        if pixels is None:
            return None
        pixels = pixels_to_srgb(pixels, header.profile, grey=header.channels == 1)
        return upright(pixels, header.orientation()) if header.exif else pixels


def read_if(path: PathLike, start: bytes) -> Optional[bytes]:
    """Read a file that begins with `start`; None for any other, whose fault others will tell."""
    try:
        if not Path(path).is_file():
            return None
        with Path(path).open("rb", buffering=0) as stream:
            if stream.read(len(start)) != start or os.fstat(stream.fileno()).st_size > MOST_BYTES:
                return None
            return start + stream.readall()
    except OSError:
        return None


def _to_rgb(image: Image.Image) -> np.ndarray:
    """Convert to RGB or RGBA uint8 [H, W, 3 or 4], without a second copy of a huge image."""
    image.load()
    width, height = image.size
    profile = image.info.get("icc_profile") or b""
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


def is_deep(image: Image.Image) -> bool:
    """Tell whether the pixels are grey of more than 8 bits, which Pillow would clip, not scale."""
    return image.mode.startswith("I") or image.mode == "F"


def full_scale(image: Image.Image) -> float:
    """Find the value that stands for white in a deep image. Raises ValueError if there is none."""
    if image.mode.startswith("I;16"):
        return 65535.0
    pixels = np.asarray(image)
    check_numbers(pixels)
    return white_of(pixels.max())
