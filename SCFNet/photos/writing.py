"""Writing pictures as PNG, JPEG and WebP files, with a comment and the photo's resolution."""

import io
import struct
import zlib
from pathlib import Path
from typing import Optional

import cv2
import numpy as np
from PIL import Image
from PIL.ExifTags import Base

from SCFNet.errors import InputError
from SCFNet.files import PathLike, write_atomically
from SCFNet.photos.reading import Dpi

KINDS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WebP"}
LARGEST_SIDES = {"JPEG": 65500, "WebP": 16383}  # pixels
JPEG_QUALITY, WEBP_QUALITY = 95, 90
PER_INCH = 2  # EXIF's unit of the resolution

# A sixth faster than OpenCV's defaults for soft maps, and a little smaller.
PNG_OPTIONS = [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]
PNG_HEADER = 33  # bytes of the signature and of the first chunk, IHDR


def write_image(path: PathLike, image: np.ndarray) -> None:
    """Write a picture as `encode_image` encodes it, atomically. Raises InputError if that fails."""
    write_atomically(path, encode_image(path, image), flush=False)


def write_png(path: PathLike, image: np.ndarray) -> None:
    """Write a picture as `write_image` does, to a path that ends in '.png'."""
    write_image(path, image)


def encode_image(
    path: PathLike, image: np.ndarray, comment: str = "", dpi: Optional[Dpi] = None
) -> bytes:
    """Encode uint8 [H, W] grey, [H, W, 3] RGB or [H, W, 4] RGBA as PNG, JPEG or WebP, by the suffix
    of `path`, with a comment and the resolution.

    WebP keeps grey pictures, and the alpha of others, exactly. Raises InputError for a picture that
    the format cannot hold.
    """
    kind = KINDS[Path(path).suffix.lower()]
    height, width = image.shape[:2]
    if max(height, width) > LARGEST_SIDES.get(kind, max(height, width)):
        raise InputError(f"{path}: {width} x {height} pixels are too many for a {kind} file")
    if kind == "PNG":
        chunks = _png_chunk(b"tEXt", b"Comment\0" + comment.encode()) if comment else b""
        if dpi:
            per_metre = [round(value / 0.0254) for value in dpi]
            chunks += _png_chunk(b"pHYs", struct.pack(">IIB", *per_metre, 1))
        encoded = _encode_png(path, image)
        return encoded[:PNG_HEADER] + chunks + encoded[PNG_HEADER:]
    picture, stream = Image.fromarray(image), io.BytesIO()
    if kind == "JPEG":
        picture.save(stream, kind, quality=JPEG_QUALITY, comment=comment, dpi=dpi or (0, 0))
        return stream.getvalue()
    exif = Image.Exif()
    exif[Base.ImageDescription] = comment
    if dpi:
        exif[Base.ResolutionUnit] = PER_INCH
        exif[Base.XResolution], exif[Base.YResolution] = dpi
    is_grey = image.ndim == 2
    picture.save(stream, kind, lossless=is_grey, quality=WEBP_QUALITY, method=2, exif=exif)
    return stream.getvalue()


def _encode_png(path: PathLike, image: np.ndarray) -> bytes:
    """Encode a PNG file by OpenCV, in a third of the time that Pillow takes."""
    if max(image.shape) > 1_000_000:  # OpenCV's limit, but not PNG's
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "PNG")
        return stream.getvalue()
    if image.ndim == 3:
        code = cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR
        image = cv2.cvtColor(image, code)
    done, encoded = cv2.imencode(".png", image, PNG_OPTIONS)
    if not done:
        raise InputError(f"{path}: {image.shape[1]} x {len(image)} pixels cannot be written as PNG")
    return encoded.tobytes()


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum
