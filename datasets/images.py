"""Reading photos and masks from any image file, and writing PNGs."""

import contextlib
import struct
import warnings
from pathlib import Path
from typing import Callable, Optional, Tuple

import cv2
import numpy as np
from PIL import Image

from datasets.files import InputError, PathLike, check_is_file, write_atomically

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")  # what Pillow may try, in this order

# Pillow refuses an image of more than twice this as a decompression bomb. Its own limit would
# refuse photos of today's largest phones and of medium-format cameras.
Image.MAX_IMAGE_PIXELS = 128_000_000
warnings.filterwarnings("ignore", module="PIL")  # a file either reads or gives an InputError

ORIENTATION = 0x0112  # EXIF's tag
JPEG_START, JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
PNG_START, PNG_END = b"\x89PNG", b"IEND\xaeB`\x82"
NOT_FRAMES = (0xC4, 0xC8, 0xCC)  # JPEG markers among those of frames, 0xC0 to 0xCF

# A sixth faster than OpenCV's defaults for soft maps, and a little smaller.
PNG_OPTIONS = [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]

STRIP_PIXELS = 4_000_000  # a photo is converted in strips of this many pixels


def read_image(path: PathLike) -> np.ndarray:
    """The photo as RGB uint8 [H, W, 3], upright by its EXIF orientation.

    Grey, palette, CMYK, 16-bit and float images are converted, what is transparent is laid over
    white, and of an animation the first frame is taken. Raises InputError for a file that is
    missing, damaged, truncated, no image, or of more than 256 million pixels.
    """
    pixels = _read_usual_jpeg(path)
    return _decode(path, _to_rgb) if pixels is None else pixels


def read_mask(path: PathLike) -> np.ndarray:
    """The mask as float32 [H, W] in [0, 1]; 0/255, 0/1, 16-bit and soft codings all read right.

    Raises InputError as `read_image` does.
    """
    return _decode(path, _to_mask)


def read_mask_uint8(path: PathLike) -> np.ndarray:
    """`read_mask` as uint8 [H, W], 0 to 255: faster for the usual PNG."""
    data = _read_whole(path, PNG_START, PNG_END)
    mask = data and cv2.imdecode(np.frombuffer(data, "uint8"), cv2.IMREAD_UNCHANGED)
    if mask is None or mask.ndim != 2 or mask.dtype != np.uint8 or mask.max() <= 1:
        return np.rint(read_mask(path) * 255).astype("uint8")
    return mask


def read_grey(path: PathLike) -> np.ndarray:
    """A saliency map or mask as it is stored, [H, W]: uint8, of deeper files uint16 or float32.

    Colours become their luma. Raises InputError as `read_image` does.
    """
    return _decode(path, _to_grey)


def write_image(path: PathLike, image: np.ndarray) -> None:
    """Write uint8 [H, W] grey, [H, W, 3] RGB or [H, W, 4] RGBA in the format of the suffix of
    `path`, '.png' or '.jpg', atomically. Raises InputError where that fails.
    """
    if image.ndim == 3:
        code = cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR
        image = cv2.cvtColor(image, code)
    suffix = Path(path).suffix
    if suffix == ".jpg" and max(image.shape) > 65500:
        height, width = image.shape[:2]
        raise InputError(f"{path}: {width} x {height} pixels are too many for a JPEG file")
    options = PNG_OPTIONS if suffix == ".png" else []
    write_atomically(path, cv2.imencode(suffix, image, options)[1], flush=False)


def write_png(path: PathLike, image: np.ndarray) -> None:
    """`write_image` for a path that ends in '.png'."""
    write_image(path, image)


def _read_whole(path: PathLike, start: bytes, end: bytes) -> Optional[bytes]:
    """The bytes of a file that begins and ends so, else None; only the first are read of a file
    that begins otherwise. OpenCV, which decodes twice as fast as Pillow, accepts truncated files:
    hence the look at the end.
    """
    try:
        if not Path(path).is_file():
            return None
        with Path(path).open("rb") as stream:
            if stream.read(len(start)) != start:
                return None
            stream.seek(0)
            data = stream.read()
    except OSError:
        return None
    return data if data.endswith(end) else None


def _read_usual_jpeg(path: PathLike) -> Optional[np.ndarray]:
    """The pixels by OpenCV, upright, of a whole grey or YCbCr JPEG file; None for any other, whose
    conversion, or fault, is Pillow's.
    """
    data = _read_whole(path, JPEG_START, JPEG_END)
    frame = data and _jpeg_frame(data)
    if not frame:
        return None
    height, width, channels = frame
    if channels not in (1, 3) or height * width > 2 * Image.MAX_IMAGE_PIXELS:
        return None
    try:
        return cv2.imdecode(np.frombuffer(data, "uint8"), cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        return None


def _jpeg_frame(data: bytes) -> Optional[Tuple[int, int, int]]:
    """Height, width and channels of a JPEG file, which its frame's header has; else None."""
    at = len(JPEG_START) - 1
    while data[at : at + 1] == b"\xff" and at + 10 <= len(data):
        marker, length = struct.unpack_from(">BH", data, at + 1)
        if 0xC0 <= marker <= 0xCF and marker not in NOT_FRAMES:
            return struct.unpack_from(">HHB", data, at + 5)
        at += 2 + length
    return None


def _decode(path: PathLike, convert: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
    """`convert` of the opened file, upright. Every fault of the file becomes an InputError."""
    try:
        check_is_file(path)
        with Image.open(path, formats=FORMATS) as image:
            return _upright(convert(image), image)
    except InputError:
        raise
    except Image.UnidentifiedImageError as error:
        raise InputError(f"{path}: is not an image ({', '.join(FORMATS)} can be read)") from error
    except Exception as error:  # Pillow's plugins raise nearly every type for a damaged file
        fault = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise InputError(
            f"{path}: cannot be read as an image: {fault or type(error).__name__}"
        ) from error


def _upright(pixels: np.ndarray, image: Image.Image) -> np.ndarray:
    """`pixels` of `image` turned and mirrored by its EXIF orientation."""
    orientation = 1
    with contextlib.suppress(Exception):  # damaged EXIF data does not cost us the photo
        orientation = image.getexif().get(ORIENTATION, 1)
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _to_rgb(image: Image.Image) -> np.ndarray:
    """RGB uint8 [H, W, 3]; of a huge image no second full-size copy is made on the way."""
    image.load()
    width, height = image.size
    array = np.empty((height, width, 3), "uint8")
    deep = _is_deep(image)
    full = _full_scale(image) if deep else 255.0
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        if deep:
            unit = np.nan_to_num(np.asarray(strip, "float32")) / full
            pixels = np.rint(np.clip(unit, 0, 1) * 255)[..., None]
        elif strip.has_transparency_data:
            strip = strip.convert("RGBA")
            white = Image.new("RGB", strip.size, "white")
            white.paste(strip, mask=strip)
            pixels = np.asarray(white)
        else:
            pixels = np.asarray(strip.convert("RGB"))
        array[top : top + rows] = pixels
    return array


def _to_mask(image: Image.Image) -> np.ndarray:
    """Float32 [H, W] in [0, 1]."""
    mask = np.asarray(image if _is_deep(image) else image.convert("L"), "float32")
    mask = np.nan_to_num(mask)
    return np.clip(mask / _full_scale_of(mask.max()), 0, 1)


def _to_grey(image: Image.Image) -> np.ndarray:
    """Grey [H, W]. Pillow may hold a 16-bit file as 32-bit integers: they become uint16."""
    grey = np.asarray(image if _is_deep(image) else image.convert("L"))
    if grey.dtype.itemsize == 4:
        return grey.astype("uint16" if image.mode == "I" and grey.max() < 2**16 else "float32")
    return grey


def _is_deep(image: Image.Image) -> bool:
    """Whether the pixels are grey of more than 8 bits, which Pillow would clip, not scale."""
    return image.mode.startswith("I") or image.mode == "F"


def _full_scale(image: Image.Image) -> float:
    """The value that stands for white in an image of 16 bits, 32 bits or floats."""
    return 65535.0 if image.mode.startswith("I;16") else _full_scale_of(image.getextrema()[1])


def _full_scale_of(largest: float) -> float:
    """The customary white, of 1, 255 and 65535, that `largest` does not exceed; else `largest`,
    and 1 for NaN.
    """
    whites = (1.0, 255.0, 65535.0)
    return next((white for white in whites if not largest > white), float(largest))
