"""Opening any image file with Pillow: how many pixels it may have, and what a fault is called."""

import contextlib
import io
import threading
import warnings
from pathlib import Path
from typing import Iterator, Optional

import numpy as np
from PIL import Image
from PIL.ExifTags import Base

from SCFNet.errors import InputError, memory_faults
from SCFNet.files import PathLike, check_is_file
from SCFNet.photos import jpeg
from SCFNet.photos.damage import Damaged, check_end, check_png
from SCFNet.photos.depth import read_deep_tiff
from SCFNet.photos.formats import START_BYTES, formats_of, is_raw, tiff_pictures
from SCFNet.photos.orientation import forget_xmp

MOST_PIXELS = 256_000_000  # today's largest phones and medium-format cameras have 200 million
MOST_BYTES = 1 << 30
LARGE_PIXELS = 32_000_000  # more are worked on one at a time

JPEGS = ("JPEG", "MPO")
ANY_BYTES = bytes(range(1, 255)) * 16  # no marker of JPEG
COLOURS = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}  # simplejpeg's names for Pillow's modes

_large = threading.RLock()
_host, _lock, _readers = contextlib.ExitStack(), threading.Lock(), 0


def read_bytes(path: PathLike) -> bytes:
    """Return what an image file holds. Raises InputError for one that is no file, or over 1 GiB."""
    with _faults_of(path):
        check_is_file(path)
        if Path(path).stat().st_size > MOST_BYTES:
            raise InputError(f"{path}: is larger than 1 GiB")
        return Path(path).read_bytes()


@contextlib.contextmanager
def open_image(path: PathLike, data: Optional[bytes] = None) -> Iterator[Image.Image]:
    """Open an image file with Pillow, for the length of a `with` block, and check that it is whole.

    `data` is what the file holds, if it is at hand: then `path` only names it in errors. Every
    fault of the file, also one that the block meets, becomes an InputError. An image of more than
    LARGE_PIXELS waits until no other thread has one open.
    """
    data = read_bytes(path) if data is None else data
    with open_unchecked(path, data) as image:
        jpeg_pixels(data, image)
        yield loaded(data, image)


def jpeg_pixels(data: bytes, image: Image.Image) -> Optional[np.ndarray]:
    """Return the pixels of an open JPEG file as `jpeg.decode` does; None for any other file."""
    if image.format not in JPEGS:
        return None
    return jpeg.decode(data, COLOURS.get(image.mode, "RGB"), image.size)


def loaded(data: bytes, image: Image.Image) -> Image.Image:
    """Let Pillow read the pixels of an open image, also of a JPEG file without its end marker.

    Raises Damaged for a JPEG whose last scan is cut: a decoder would take bytes that are put behind
    it for a part of the picture, which a whole scan never lets it do.
    """
    try:
        image.load()
        return image
    except OSError:
        if image.format not in JPEGS:
            raise
    scans = data[: jpeg.end_of_scans(data, len(image.getbands()))]
    alone, followed = (
        Image.open(io.BytesIO(scans + behind + jpeg.END), "r", JPEGS) for behind in (b"", ANY_BYTES)
    )
    if alone.tobytes() != followed.tobytes():
        raise Damaged("truncated: the end of the picture is missing")
    return alone


@contextlib.contextmanager
def open_unchecked(path: PathLike, data: bytes) -> Iterator[Image.Image]:
    """Open what an image file holds as `open_image` does, but look for no damage in a JPEG."""
    with _faults_of(path), _pillow_for_us(), _open(path, data) as image:
        check_pixels(path, *image.size)
        with in_turn(image.width * image.height):
            if image.format == "PNG":
                check_png(data)
            elif image.format in ("WEBP", "AVIF", "HEIF"):
                check_end(data, image.format)
            yield image


def check_pixels(path: PathLike, width: int, height: int) -> None:
    """Raise InputError for an image of too many pixels."""
    if width * height > MOST_PIXELS:
        limit = f"exceeds limit of {MOST_PIXELS // 10**6} million pixels"
        raise InputError(f"{path}: {limit}: {width} x {height}")


@contextlib.contextmanager
def in_turn(pixels: int) -> Iterator[None]:
    """Hold a lock for an image of more than LARGE_PIXELS: threads work on them one at a time."""
    with _large if pixels > LARGE_PIXELS else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def large_photo(path: PathLike, data: Optional[bytes] = None) -> Iterator[bool]:
    """Yield whether a photo is large by its header, and if so hold the lock of `in_turn` for the
    length of the block, from reading to writing. `data` is what the file holds, if at hand.
    """
    pixels = 0
    with contextlib.suppress(Exception), header_of(path, data) as image:
        pixels = image.width * image.height
    with in_turn(pixels):
        yield pixels > LARGE_PIXELS


def count_pictures(path: PathLike) -> int:
    """Return how many pictures an image file holds (GIF, APNG, MPO and others): 1 if it is broken,
    or no image.
    """
    with contextlib.suppress(Exception), header_of(path) as image:
        return getattr(image, "n_frames", 1)
    return 1


@contextlib.contextmanager
def header_of(path: PathLike, data: Optional[bytes] = None) -> Iterator[Image.Image]:
    """Open an image file to look at its header; `data` is what it holds, if it is at hand.

    The exceptions are of any kind, and no lines for people.
    """
    if data is None:
        check_is_file(path)
    with Path(path).open("rb") if data is None else io.BytesIO(data) as stream:
        names = formats_of(stream.read(START_BYTES))[0]
        stream.seek(0)
        with _pillow_for_us(), Image.open(stream, "r", names) as image:
            yield image


def _open(path: PathLike, data: bytes) -> Image.Image:
    if not data:
        raise InputError(f"{path}: is empty")
    pictures = tiff_pictures(data)
    if is_raw(data, pictures):
        raise InputError(f"{path}: is a camera's raw file: develop it first")
    if pictures:
        sides = (pictures[0].get(tag, 0) for tag in (Base.ImageWidth, Base.ImageLength))
        check_pixels(path, *sides)
        deep = read_deep_tiff(path, data, pictures[0])
        if deep:
            return deep
    names, fault = formats_of(data)
    try:
        image = Image.open(io.BytesIO(data), "r", names)
    except Image.UnidentifiedImageError as error:
        raise InputError(f"{path}: {fault}") from error
    forget_xmp(image)
    return image


@contextlib.contextmanager
def _faults_of(path: PathLike) -> Iterator[None]:
    """Raise every fault of an image file as InputError, which names it in one line."""
    try:
        with memory_faults(path):
            yield
    except InputError:
        raise
    except Exception as error:  # Pillow's plugins raise nearly every type for a damaged file
        fault = getattr(error, "strerror", None) or " ".join(str(error).split())
        fault = fault or type(error).__name__
        raise InputError(f"{path}: cannot be read as an image: {fault}") from error


@contextlib.contextmanager
def _pillow_for_us() -> Iterator[None]:
    """Silence Pillow's warnings, and lift its limit of pixels, while any thread is in such a block;
    then a host has its own again.
    """
    global _readers
    with _lock:
        if not _readers:
            _host.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", module="PIL")
            _host.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
            Image.MAX_IMAGE_PIXELS = None
        _readers += 1
    try:
        yield
    finally:
        with _lock:
            _readers -= 1
            if not _readers:
                _host.close()
