"""Opening any image file: which formats, how many pixels, which way up, and what a fault is called.

What is decoded becomes a photo in `images` and a mask in `masks`.
"""

import contextlib
import io
import threading
import warnings
from pathlib import Path
from typing import Iterator, List, Optional

import numpy as np
from PIL import Image, features

from SCFNet.errors import InputError
from SCFNet.files import PathLike, check_is_file
from SCFNet.photos import jpeg, tiff
from SCFNet.photos.damage import check_png, check_png_rows, check_zeros

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"),
    *(".avif", ".heic", ".heif"),
)
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")  # what Pillow may try, in this order
HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
AVIF_BRANDS = (b"avif", b"avis")

MOST_PIXELS = 256_000_000  # today's largest phones and medium-format cameras have 200 million
MOST_BYTES = 1 << 30
LARGE_PIXELS = 32_000_000  # more are worked on one at a time

TOO_LARGE = f"exceeds limit of {MOST_PIXELS // 10**6} million pixels"

# Pillow refuses an image of more than twice this as a decompression bomb.
Image.MAX_IMAGE_PIXELS = MOST_PIXELS // 2
warnings.filterwarnings("ignore", module="PIL")  # a file either reads or gives an InputError

_large = threading.RLock()


@contextlib.contextmanager
def open_image(path: PathLike, data: Optional[bytes] = None) -> Iterator[Image.Image]:
    """Open an image file with Pillow, for the length of a `with` block.

    `data` is what the file holds, if it is at hand: then `path` only names it in errors. Every
    fault of the file, also one that the block meets, becomes an InputError. An image of more than
    LARGE_PIXELS waits until no other thread has one open.
    """
    try:
        data = _read(path) if data is None else data
        if not data:
            raise InputError(f"{path}: is empty")
        opened = tiff.open_unusual(path, data, MOST_PIXELS)
        with opened or Image.open(io.BytesIO(data), "r", _formats(data)) as image:
            check_pixels(path, *image.size)
            with in_turn(image.width * image.height):
                _check_whole(data, image)
                yield image
    except InputError:
        raise
    except Image.UnidentifiedImageError as error:
        raise InputError(f"{path}: {_unknown(data or b'')}") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: {TOO_LARGE}") from error
    except Exception as error:  # Pillow's plugins raise nearly every type for a damaged file
        fault = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise InputError(
            f"{path}: cannot be read as an image: {fault or type(error).__name__}"
        ) from error


def _read(path: PathLike) -> bytes:
    """Read an image file whole. Raises InputError for one that is no file, or over 1 GiB."""
    check_is_file(path)
    if Path(path).stat().st_size > MOST_BYTES:
        raise InputError(f"{path}: is larger than 1 GiB")
    return Path(path).read_bytes()


def check_pixels(path: PathLike, width: int, height: int) -> None:
    """Raise InputError for an image of too many pixels."""
    if width * height > MOST_PIXELS:
        raise InputError(f"{path}: {TOO_LARGE}: {width} x {height}")


@contextlib.contextmanager
def in_turn(pixels: int) -> Iterator[None]:
    """Keep other threads out of such blocks while one has more than LARGE_PIXELS at hand."""
    with _large if pixels > LARGE_PIXELS else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def large_photo(path: PathLike, data: Optional[bytes] = None) -> Iterator[bool]:
    """Do `in_turn` for all that is done with a photo, from reading to writing, by its header;
    yields whether it is large. `data` is what the file holds, if it is at hand.
    """
    pixels = 0
    with contextlib.suppress(Exception):  # the fault is for the reader to tell
        if data is None:
            check_is_file(path)
        with Path(path).open("rb") if data is None else io.BytesIO(data) as stream:
            formats = _formats(stream.read(12))
            stream.seek(0)
            with Image.open(stream, "r", formats) as image:
                pixels = image.width * image.height
    with in_turn(pixels):
        yield pixels > LARGE_PIXELS


def orientation_of(image: Image.Image) -> object:
    """Read EXIF's number for which way up a decoded image is: 1, which is upright, if broken."""
    with contextlib.suppress(Exception):
        return image.getexif().get(jpeg.ORIENTATION, 1)
    return 1


def upright(pixels: np.ndarray, orientation: object) -> np.ndarray:
    """Turn and mirror pixels [H, W, ...] by EXIF's orientation; others than 1 to 8 do nothing."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _formats(data: bytes) -> List[str]:
    """List the formats to try; HEIC is one of them if pillow-heif is installed."""
    brand = _brand(data)
    if brand in AVIF_BRANDS and features.check("avif"):
        return ["AVIF"]
    if brand in HEIC_BRANDS:
        with contextlib.suppress(ImportError):
            import pillow_heif

            pillow_heif.register_heif_opener()
            return ["HEIF"]
    return list(FORMATS)


def _brand(data: bytes) -> bytes:
    """Return the brand of a file of MP4's family, to which HEIC and AVIF belong; else nothing."""
    return data[8:12] if data[4:8] == b"ftyp" else b""


def _unknown(data: bytes) -> str:
    """Say what is wrong with a file that none of the formats fits."""
    brand, readable = _brand(data), _formats(data)
    if brand in HEIC_BRANDS and "HEIF" not in readable:
        return "is a HEIC photo, which needs another package: pip install pillow-heif"
    if brand in AVIF_BRANDS and "AVIF" not in readable:
        return "is an AVIF photo, which needs a newer Pillow: pip install --upgrade Pillow"
    if brand:
        return "cannot be read as an image: damaged, or of a kind that its package does not know"
    return f"is not an image ({', '.join(FORMATS)}, AVIF and HEIC can be read)"


def _check_whole(data: bytes, image: Image.Image) -> None:
    """Raise Damaged for a file that Pillow would decode, though it is not whole."""
    image_format = image.format
    if image_format not in ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "HEIF"):
        return
    if image_format == "PNG":
        check_png(data)
        last_row = image.crop((0, image.height - 1, image.width, image.height))
        if not any(last_row.tobytes()):
            check_png_rows(data)
    elif image_format in ("WEBP", "AVIF", "HEIF"):
        check_zeros(data, image_format)
    else:
        header = jpeg.read_header(data)
        if header:
            jpeg.check_size(data, header)
            jpeg.check_whole(data, header)
