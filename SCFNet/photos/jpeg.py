"""JPEG files by simplejpeg, which tells what libjpeg complains about; Pillow where it is missing.

A complaint does not always mean damage: phones write other data behind the picture, cameras leave
the end marker out. So a file that fails is decoded once more, closed behind its last scan.
"""

import re
from typing import Dict, Optional, Tuple

import numpy as np

from SCFNet.photos.damage import Damaged

try:
    import simplejpeg
except ImportError:  # no wheel for this machine
    simplejpeg = None

END, SCAN = b"\xff\xd9", 0xDA
MARKER = re.compile(rb"\xff+[\x01-\xfe]")
NO_RESTART = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")
BARE = {1, *range(0xD0, 0xDA)}  # markers without a length
BETWEEN_SCANS = {0xC4, 0xCC, 0xDB, 0xDD, 0xFE, SCAN}  # tables, comments, the next scan

MOST_SCANS = 100  # common are 1 and 10; each costs a pass over the whole picture
FEW = 16  # bytes that some encoders leave before the end marker
TRIES = 3  # the decoder reads ahead, and so tells a few bytes too late
PIXELS_PER_BYTE = 512  # at most: each block of 8 x 8 takes a bit

EXTRA = re.compile("([0-9]+) extraneous bytes before marker 0xd9")
CHANNELS = {"GRAY": 1, "RGB": 3, "CMYK": 4}
# Complaints about sound files, or about kinds that Pillow reads.
ODD = re.compile(
    r"extraneous bytes before marker 0x(?!d[0-9])|Invalid SOS parameters|unknown JFIF revision"
    r"|bad ICC marker|Unknown Adobe|Unsupported JPEG (process|data precision)|arithmetic"
    r"|Could not determine"
)


def decode(data: bytes, colours: str, size: Tuple[int, int]) -> Optional[np.ndarray]:
    """Decode a JPEG file to uint8 [H, W, C] of `colours`, 'RGB', 'GRAY' or 'CMYK'.

    None if simplejpeg is not installed, or does not know the kind: then Pillow may read it. Raises
    Damaged if a part of the picture is missing, MemoryError if memory is short. `size` is width and
    height as Pillow sees them.
    """
    _check_size(data, *size)
    if simplejpeg is None:
        return None
    fault, pixels = _decode(data, colours)
    if not fault:
        return pixels
    scans = data[: end_of_scans(data, CHANNELS[colours])]
    found = EXTRA.search(fault)  # before the file's own end marker: a part is lost, if many
    ended_early = found and len(scans[-int(found[1]) :].rstrip(b"\0")) > FEW
    fault, pixels = _decode(scans + END, colours)
    for _ in range(TRIES):
        found = EXTRA.search(fault)
        if not found:
            break
        extra = scans[-int(found[1]) :]
        if any(extra) and ended_early:
            break
        scans = scans[: -len(extra)] if any(extra) else scans.rstrip(b"\0")
        fault, pixels = _decode(scans + END, colours)
    if not fault or ODD.search(fault):
        return pixels
    cut = "remature end" in fault
    raise Damaged("truncated: the end of the picture is missing" if cut else f"damaged: {fault}")


def _check_size(data: bytes, width: int, height: int) -> None:
    """Raise Damaged if the file is too short for its pixels, or a bomb of scans."""
    if simplejpeg is not None:
        try:
            height, width = simplejpeg.decode_jpeg_header(data, strict=False)[:2]
        except ValueError:
            return  # of a kind that Pillow reads
    if height * width > PIXELS_PER_BYTE * len(data):
        raise Damaged(f"truncated: {width} x {height} pixels are not in it")
    if data.count(bytes([0xFF, SCAN])) > MOST_SCANS:
        end_of_scans(data, 0)


def _decode(data: bytes, colours: str) -> Tuple[str, Optional[np.ndarray]]:
    """Return libjpeg's complaint, and no pixels; or no complaint, and the pixels."""
    try:
        return "", simplejpeg.decode_jpeg(data, colours)
    except ValueError as error:
        fault = " ".join(str(error).split())
        if "memory" in fault.lower():
            raise MemoryError(fault) from error
        return fault, None


def end_of_scans(data: bytes, channels: int) -> int:
    """Return where the data of the last scan end. Raises Damaged if scans are missing, or too many:
    together they must give the last bit of all 64 coefficients of each channel.
    """
    at, end, scans = 2, 0, 0
    complete: Dict[int, int] = {}  # by channel, a bit for each coefficient
    while True:
        found = MARKER.search(data, at)
        kind = data[found.end() - 1] if found else 0
        if not found or (end and (found.start() > at or kind not in BETWEEN_SCANS)):
            break
        start = at = found.end()
        if kind not in BARE:
            at += int.from_bytes(data[at : at + 2], "big")
        if kind == SCAN and at <= len(data):
            scans += 1
            if scans > MOST_SCANS:
                raise Damaged(f"more than {MOST_SCANS} scans")
            first, last, bits = data[at - 3 : at]
            for channel in data[start + 3 : at - 3 : 2]:
                done = 0 if bits & 15 else (2 << last) - (1 << first)
                complete[channel] = complete.get(channel, 0) | done
            behind = NO_RESTART.search(data, at)
            at = end = behind.start() if behind else len(data)
    if len(complete) < channels or set(complete.values()) != {2**64 - 1}:
        raise Damaged("truncated: the end of the picture is missing")
    return end
