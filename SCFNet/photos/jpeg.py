"""JPEG files: what the header says, decoding by OpenCV, and damage that decoders pass over.

OpenCV decodes twice as fast as Pillow, but tells nothing of what libjpeg complained about: a file
that was cut, or whose end is zeros, gives a picture whose rest is grey or a pattern. Here such a
file is found by its traces, which cost next to nothing to look for, and each suspicion is proved by
decoding again with other bytes in the doubtful place.
"""

import contextlib
import math
import re
from typing import Dict, NamedTuple, Optional, Tuple

import cv2
import numpy as np
from PIL import Image

from SCFNet.photos.damage import JUNK, ZEROS, ZEROS_FAULT, Damaged, fingerprint

START, END = b"\xff\xd8\xff", b"\xff\xd9"
ORIENTATION = 0x0112  # EXIF's tag
SCAN = b"\xff\xda"  # begins the header of a scan

FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended and progressive, in Huffman coding
PROGRESSIVE = 0xC2
EXIF, PROFILE, TABLES, RESTARTS = 0xE1, 0xE2, 0xC4, 0xDD
SEGMENTS = {0xDB, 0xFE, *range(0xE0, 0xF0)}  # other tables, comments and applications' data
MARKER = re.compile(rb"\xff+[\x01-\xfe]")
RESTART = re.compile(rb"\xff[\xd0-\xd7]")
NO_RESTART = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")

UNSEEN = 8  # bytes: the last blocks may lie outside of the picture
MOST_SCANS = 100  # common are 1 and 10; each costs a pass over the whole picture
LUMA = np.array([0.299, 0.587, 0.114])


class Header(NamedTuple):
    """What stands before the picture's data.

    `scan` is where the first scan begins, `exif` and `profile` are empty if there are none.
    `restarts` is how many markers for a restart are among the data of a file of one scan; None if
    the file has several. `even_zeros`: an even area may be stored as zeros.
    """

    height: int
    width: int
    channels: int
    progressive: bool
    scan: int
    exif: bytes
    profile: bytes
    restarts: Optional[int]
    even_zeros: bool

    def orientation(self) -> object:
        """Read EXIF's number for which way up the picture is: 1, which is upright, if broken."""
        tags = Image.Exif()
        with contextlib.suppress(Exception):
            tags.load(self.exif)
            return tags.get(ORIENTATION, 1)
        return 1


def read_header(data: bytes) -> Optional[Header]:
    """Walk through the segments as libjpeg does. None for a file that is not plainly laid out, or
    of a kind that OpenCV does not decode: nothing of it is known for sure.
    """
    at, frame, progressive, exif, tables, interval = 2, b"", False, b"", b"", 0
    chunks: Dict[int, bytes] = {}
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == SCAN[1]:
            profile = b"".join(chunks[number] for number in sorted(chunks))
            header = _header(frame, progressive, at, exif, profile)
            if header and data[at + 4] == header.channels and not progressive:
                return header._replace(
                    restarts=_count_restarts(header, frame, interval),
                    even_zeros=_even_zeros(tables),
                )
            return header
        if length < 2:
            return None
        segment = data[at + 4 : at + 2 + length]
        if marker in FRAMES and not frame:
            frame, progressive = segment, marker == PROGRESSIVE
        elif marker == EXIF and segment.startswith(b"Exif\0\0"):
            exif = exif or segment
        elif marker == PROFILE and segment.startswith(b"ICC_PROFILE\0"):
            chunks[segment[12] if len(segment) > 12 else 0] = segment[14:]
        elif marker == TABLES:
            tables += segment
        elif marker == RESTARTS:
            interval = int.from_bytes(segment[:2], "big")
        elif marker not in SEGMENTS:
            return None
        at += 2 + length
    return None


def _header(
    frame: bytes, progressive: bool, scan: int, exif: bytes, profile: bytes
) -> Optional[Header]:
    channels = frame[5] if len(frame) > 5 else 0
    if not channels or len(frame) < 6 + 3 * channels or frame[0] != 8:
        return None
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    if not height or not width:
        return None
    return Header(height, width, channels, progressive, scan, exif, profile, None, True)


def _even_zeros(tables: bytes) -> bool:
    """Tell whether a block without detail can be all zeros in these Huffman tables: its symbol, 0,
    is the first one of each table, the code of which is zeros.
    """
    at = 0
    while at + 17 < len(tables):
        if tables[at + 17]:
            return False
        at += 17 + sum(tables[at + 1 : at + 17])
    return True


def _count_restarts(header: Header, frame: bytes, interval: int) -> int:
    """Count the restarts of a scan of all channels, one after each `interval` of its units."""
    if not interval:
        return 0
    factors = [frame[7 + 3 * channel] for channel in range(header.channels)]
    single = header.channels == 1
    across = 8 * (1 if single else max(factor >> 4 for factor in factors))
    down = 8 * (1 if single else max(factor & 15 for factor in factors))
    if not across or not down:
        return 0
    units = math.ceil(header.width / across) * math.ceil(header.height / down)
    return (units - 1) // interval


def decode(data: bytes, header: Header) -> Optional[np.ndarray]:
    """Decode a grey or YCbCr file to pixels as it stores them, RGB uint8 [H, W, 3]; None if OpenCV
    cannot decode it. Raises Damaged as `check_whole` does, which is asked if anything looks odd.
    """
    check_size(data, header)
    cut = not data.endswith(END) and data.find(END, header.scan) < 0
    if (
        cut
        or _may_lack_scans(data, header)
        or data.find(ZEROS, header.scan) >= 0
        or _has_odd_markers(data, header)
    ):
        check_whole(data, header)
    if cut:
        data += END
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(data, "uint8"), flags)
    except cv2.error:
        return None
    if pixels is not None and _ends_grey(pixels):
        check_whole(data, header)
    return pixels


def check_size(data: bytes, header: Header) -> None:
    """Raise Damaged if so many pixels cannot be in the file: each 8 x 8 block takes a bit."""
    if header.height * header.width > 64 * 8 * (len(data) - header.scan):
        raise Damaged(f"truncated: {header.width} x {header.height} pixels are not in it")


def check_whole(data: bytes, header: Header) -> None:
    """Raise Damaged if the picture's data end too early, or are zeros from some place on.

    Only what changes the picture counts: a photo without an end marker, with other data after it,
    with even areas, or with a grey corner is whole. Not found is the loss of the last few pixels,
    of a part of the last refinement of a progressive file, and noise that decodes.
    """
    end = data.find(END, header.scan)
    if end < 0:
        end, data = len(data), data + END
    if header.restarts and len(RESTART.findall(data, header.scan, end)) < header.restarts:
        raise Damaged("damaged: a part of the picture is missing")
    picture = fingerprint(data, "JPEG")
    if picture is None:
        raise Damaged("damaged: its data break off")
    end = _end_of_data(data, data.rfind(SCAN, header.scan, end) + 4, NO_RESTART)
    if _wants_more(data, end, picture):
        raise Damaged("truncated: the end of the picture is missing")
    first, last = data.find(ZEROS, header.scan), data.rfind(ZEROS, header.scan)
    sure = first >= 0 and not header.even_zeros
    if sure and _is_read(data, first + UNSEEN, first + len(ZEROS), picture):
        raise Damaged(ZEROS_FAULT)
    ends = {_end_of_data(data, at, MARKER): at for at in (last, first) if at >= 0}
    if any(_lost_zeros(data, zeros, end, picture) for end, zeros in ends.items()):
        raise Damaged(ZEROS_FAULT)


def _has_odd_markers(data: bytes, header: Header) -> bool:
    """Tell whether the data of a file of one scan have other markers than restarts and the end.

    Looked for in the whole file first, which is faster, as hardly any goes on behind its end.
    """
    if header.restarts is None:
        return False
    usual = header.restarts + 1
    return (
        _count_markers(data[header.scan + 2 :]) != usual
        and _count_markers(data[header.scan + 2 : data.find(END, header.scan) + 2]) != usual
    )


def _count_markers(data: bytes) -> int:
    values = np.frombuffer(data, "uint8")
    return int(np.count_nonzero((values[:-1] == 0xFF) & (values[1:] > 0)))


def _ends_grey(pixels: np.ndarray) -> bool:
    """Tell whether the last pixels have the brightness that libjpeg gives for missing data."""
    luma = np.dot(LUMA, pixels[-1, -1].tolist())
    return abs(luma - 128) < 1.5 and bool((abs(pixels[-2:, -8:] @ LUMA - 128) < 1.5).all())


def _may_lack_scans(data: bytes, header: Header) -> bool:
    """Tell whether the scans leave out a coefficient of a channel, or its last bit; or the last
    scan of a progressive file may be cut. Raises Damaged for a bomb of scans.

    That scan mostly gives one channel its last bit, and is half as long again as the one which gave
    the bit before: so it is of 99 in 100 photos of the web.
    """
    complete: Dict[int, int] = {}  # by channel, a bit for each coefficient
    refined: Dict[Tuple[bytes, int], int] = {}  # the length of the last refinement
    at = header.scan
    for _ in range(MOST_SCANS):
        count = data[at + 4]
        if count == header.channels and not header.progressive:
            return False
        channels = data[at + 5 : at + 5 + 2 * count : 2]
        first, last, precision = data[at + 5 + 2 * count : at + 8 + 2 * count]
        before, now = precision >> 4, precision & 15
        if not now:
            for channel in channels:
                complete[channel] = complete.get(channel, 0) | ((2 << last) - (1 << first))
        following = data.find(SCAN, at + 2, len(data) - 10)
        if following < 0:
            break
        if before:
            refined[channels, first] = following - at
        at = following
    else:
        raise Damaged(f"more than {MOST_SCANS} scans")
    if len(complete) < header.channels or set(complete.values()) != {2**64 - 1}:
        return True
    if not before or data.endswith(b"\xff" + END):
        return True
    return len(data) - at < 1.45 * refined.get((channels, first), len(data))


def _end_of_data(data: bytes, start: int, marker: "re.Pattern[bytes]") -> int:
    found = marker.search(data, start)
    return found.start() if found else len(data)


def _lost_zeros(data: bytes, zeros: int, end: int, picture: int) -> bool:
    """Tell whether the zeros that begin at `zeros` stand for other bytes of the data before `end`.

    Then the picture is finished too late or too early: the decoder would read on, or it leaves many
    bytes unread. Some encoders leave a few, or fill up with zeros, behind a last byte that is none.
    """
    if not _is_read(data, zeros, zeros + len(ZEROS), picture):
        return False
    if _wants_more(data, end, picture):
        return True
    if _is_read(data, end - UNSEEN, end, picture):
        return False
    low, high = zeros, end
    while low < high:
        middle = (low + high) // 2
        if _is_read(data, middle, high, picture):
            low = middle + 1
        else:
            high = middle
    last, left = data[low - UNSEEN : low + UNSEEN], data[low + UNSEEN : end]
    if any(left):
        return len(left) > len(ZEROS)
    return len(left) > 0 and not any(last)


def _is_read(data: bytes, start: int, end: int, picture: int) -> bool:
    """Tell whether other bytes between `start` and `end` give another picture."""
    changed = data[:start] + b"\xa5" * (end - start) + data[end:]
    return fingerprint(changed, "JPEG") != picture


def _wants_more(data: bytes, end: int, picture: int) -> bool:
    """Tell whether the decoder would read on after the data before a marker at `end`."""
    return fingerprint(data[:end] + JUNK + data[end:], "JPEG") != picture
