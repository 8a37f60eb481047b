"""Damage that Pillow passes over without a word: wrong checksums, and ends that are lost zeros."""

import io
import re
import zlib

from PIL import Image

ZEROS_SHARE = 1 / 8  # of a file at its end, at most; of sound ones on a flat ground 0.06
FEW_ZEROS = 64  # bytes
LOSSLESS = b"VP8L"  # a chunk of WebP
CRITICAL = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")  # PNG's chunks that make the picture

SCAN, TABLES, SEQUENTIAL = 0xDA, 0xC4, (0xC0, 0xC1)  # JPEG's markers
PICTURE = re.compile(rb"(?:[^\xff]|\xff+[\x00\xd0-\xd7])*")  # to the next marker but a restart
HOLE = 64  # zeros in a row


class Damaged(Exception):
    """The file is not whole; the message says what is wrong."""


def check_png(data: bytes) -> None:
    """Raise Damaged if a checksum of the picture in a PNG file is wrong."""
    at = 8
    while at + 12 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 8 + length
        if kind in CRITICAL and end + 4 <= len(data):
            found = zlib.crc32(memoryview(data)[at + 4 : end])
            if found != int.from_bytes(data[end : end + 4], "big"):
                raise Damaged("damaged: a part of the picture has a wrong checksum")
        at = end + 4


def check_end(data: bytes, image_format: str) -> None:
    """Raise Damaged if a WebP, AVIF or HEIC file is shorter than it says, or ends in more zeros
    than its coding can give.
    """
    if image_format == "WEBP":
        length = 8 + int.from_bytes(data[4:8], "little")
        if length > len(data):
            raise Damaged("truncated: the end of the picture is missing")
        data = data[:length]
    zeros = len(data) - len(data.rstrip(b"\0"))
    if zeros <= max(FEW_ZEROS, ZEROS_SHARE * len(data)):
        return
    if LOSSLESS not in data or _decodes_without_last(data, FEW_ZEROS):
        raise Damaged("damaged: the end of the picture is zeros")


def _decodes_without_last(data: bytes, count: int) -> bool:
    """Return whether a lossless WebP decodes without its last `count` bytes, all zeros. A sound
    one, whose flat areas they are, does not; zeros in place of lost bytes end the picture early.
    """
    at = data.index(LOSSLESS) + len(LOSSLESS)
    shorter = bytearray(data[:-count])
    shorter[4:8] = (len(shorter) - 8).to_bytes(4, "little")
    shorter[at : at + 4] = (len(shorter) - at - 4).to_bytes(4, "little")
    try:
        with Image.open(io.BytesIO(shorter), "r", ["WEBP"]) as image:
            image.load()
    except Exception:
        return False
    return True


def has_hole(data: bytes) -> bool:
    """Return whether a part of a JPEG file's picture is zeros, which decoders read as noise.

    Zeros are damage where the tables of a sequential file do not code the end of a block by zeros;
    tables that are optimised for flat areas may do so.
    """
    at, sequential, first_codes = 2, False, []
    while data[at : at + 1] == b"\xff" and data[at + 1] != SCAN:
        kind, end = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        sequential |= kind in SEQUENTIAL
        table = at + 4
        while kind == TABLES and table + 17 < end:
            if data[table] >> 4:  # of the coefficients but the first
                first_codes.append(data[table + 17])
            table += 17 + sum(data[table + 1 : table + 17])
        at = end
    scan = PICTURE.match(data, at + 2)
    return bool(sequential and any(first_codes) and scan and bytes(HOLE) in scan[0])
