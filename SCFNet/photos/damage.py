"""Damage that decoders pass over without a word: wrong checksums, and data that are lost zeros."""

import io
import zlib
from typing import Optional

from PIL import Image

ZEROS = bytes(64)  # a run that compressed data has in an even area at most, or in a lost sector
JUNK = bytes(range(1, 255, 4))  # as long, and without 0xff, which means something in a JPEG file

ZEROS_FAULT = "damaged: a part of the picture is zeros"

# PNG: samples of a pixel by colour type; first column and row of each pass, and their steps.
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ADAM7 = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)

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


def check_png_rows(data: bytes) -> None:
    """Raise Damaged if a whole PNG file holds fewer rows than its header says: Pillow leaves the
    others black.
    """
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    bits = data[24] * SAMPLES.get(data[25], 1)
    passes = ADAM7 if data[28] else [(0, 0, 1, 1)]
    sides = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in passes]
    missing = sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in sides if columns > 0)
    inflate = zlib.decompressobj()
    at = 8
    while at + 12 <= len(data) and missing > 0:
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        part = data[at + 8 : at + 8 + length] if kind == b"IDAT" else b""
        while part and missing > 0:
            missing -= len(inflate.decompress(part, 1 << 20))
            part = inflate.unconsumed_tail
        at += 12 + length
    if missing - len(inflate.flush()) > 0:
        raise Damaged("truncated: the end of the picture is missing")


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
