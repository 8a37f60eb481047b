"""Damage that decoders pass over without a word: wrong checksums, and data that are lost zeros."""

import io
import zlib
from typing import Optional

from PIL import Image

ZEROS = bytes(64)  # a run that compressed data has in an even area at most, or in a lost sector
JUNK = bytes(range(1, 255, 4))  # as long, and without 0xff, which means something in a JPEG file

ZEROS_FAULT = "damaged: a part of the picture is zeros"

CRITICAL = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")


class Damaged(Exception):
    """The file is not whole; the message says what is wrong."""


def fingerprint(data: bytes, image_format: str) -> Optional[int]:
    """Sum up the colours of an image file in a checksum; None if it cannot be decoded. By Pillow,
    because OpenCV prints what it thinks of a file.
    """
    checksum = 0
    try:
        with Image.open(io.BytesIO(data), "r", [image_format]) as image:
            for top in range(0, image.height, 512):
                strip = image.crop((0, top, image.width, min(top + 512, image.height)))
                colours = strip.convert("RGB") if strip.mode == "RGBA" else strip
                checksum = zlib.crc32(colours.tobytes(), checksum)
    except Exception:
        return None
    return checksum


def check_png(data: bytes) -> None:
    """Raise Damaged if a checksum in a PNG file, at which Pillow never looks, is wrong."""
    at = 8
    while at + 12 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 8 + length
        if kind in CRITICAL and end + 4 <= len(data):
            found = zlib.crc32(memoryview(data)[at + 4 : end])
            if found != int.from_bytes(data[end : end + 4], "big"):
                raise Damaged("damaged: a part of the picture has a wrong checksum")
        at = end + 4


def check_zeros(data: bytes, image_format: str) -> None:
    """Raise Damaged if a run of zeros is a part of the picture in a WebP, AVIF or HEIC file, whose
    coding is arithmetic and gives no such run.
    """
    zeros = data.find(ZEROS)
    if zeros < 0:
        return
    filled = data[:zeros] + JUNK + data[zeros + len(ZEROS) :]
    if fingerprint(filled, image_format) != fingerprint(data, image_format):
        raise Damaged(ZEROS_FAULT)
