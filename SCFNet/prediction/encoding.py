"""Result files: a picture in the format of its name, with its mark and the photo's resolution."""

import io
import struct
import zlib
from pathlib import Path
from typing import Optional

import numpy as np
from PIL import Image

from SCFNet.errors import InputError
from SCFNet.photos.reading import RESOLUTION_UNIT, X_RESOLUTION, Y_RESOLUTION, Dpi
from SCFNet.photos.writing import encode_image

PNG_HEADER = 33  # bytes of the signature and of the first chunk, IHDR
JPEG_HEADER = 20  # bytes of the start marker and of JFIF's segment, whose density comes at 13
WEBP_SIDE = 16383  # pixels
WEBP_QUALITY = 90
DESCRIPTION, PER_INCH = 0x010E, 2  # EXIF's tag, and its unit


def encode_result(target: Path, picture: np.ndarray, mark: str, dpi: Optional[Dpi]) -> bytes:
    """Encode a picture, uint8 [H, W], [H, W, 3] or [H, W, 4], as PNG, JPEG or WebP, by the suffix
    of `target`, with the comment `mark` and the resolution.

    WebP keeps grey pictures, and the alpha of others, exactly. Raises InputError for a picture that
    the format cannot hold.
    """
    suffix = target.suffix.lower()
    if suffix == ".webp":
        return _encode_webp(target, picture, mark, dpi)
    encoded = encode_image(target.with_suffix(suffix.replace(".jpeg", ".jpg")), picture)
    if suffix == ".png":
        chunks = _png_chunk(b"tEXt", b"Comment\0" + mark.encode())
        if dpi:
            per_metre = [round(value / 0.0254) for value in dpi]
            chunks += _png_chunk(b"pHYs", struct.pack(">IIB", *per_metre, 1))
        return encoded[:PNG_HEADER] + chunks + encoded[PNG_HEADER:]
    comment = b"\xff\xfe" + struct.pack(">H", len(mark) + 2) + mark.encode()
    density = struct.pack(">BHH", 1, *dpi) if dpi else encoded[13:18]
    return encoded[:13] + density + encoded[18:JPEG_HEADER] + comment + encoded[JPEG_HEADER:]


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


def _encode_webp(target: Path, picture: np.ndarray, mark: str, dpi: Optional[Dpi]) -> bytes:
    height, width = picture.shape[:2]
    if max(height, width) > WEBP_SIDE:
        raise InputError(f"{target}: {width} x {height} pixels are too many for a WebP file")
    exif = Image.Exif()
    exif[DESCRIPTION] = mark
    if dpi:
        exif[RESOLUTION_UNIT], exif[X_RESOLUTION], exif[Y_RESOLUTION] = PER_INCH, *dpi
    stream = io.BytesIO()
    is_grey = picture.ndim == 2
    Image.fromarray(picture).save(
        stream, "WEBP", lossless=is_grey, quality=WEBP_QUALITY, method=2, exif=exif
    )
    return stream.getvalue()
