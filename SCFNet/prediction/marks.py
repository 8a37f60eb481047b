"""The mark in a result, which says that it is one, and of which input it was made.

It lets a folder that holds results be read as a folder of photos, and `jobs.has_results` tell the
result of one `a.jpg` from that of another. PNG and JPEG files have it near their beginning, as a
comment; so have WebM files; MP4 and MOV files near their end.
"""

import hashlib
import os
import re
import struct
import zlib
from pathlib import Path
from typing import Optional

PATTERN = re.compile(rb"SCFNet result of [0-9a-f]{16}")
NEAR = 2048  # bytes from either end of a file

PNG_HEADER = 33  # bytes of the signature and of the first chunk, IHDR
JPEG_HEADER = 20  # bytes of the start marker and of JFIF's segment


def mark_of(source: Path) -> str:
    """Make the mark for the results of `source`."""
    return make_mark(source.name, source.stat().st_size if source.is_file() else 0)


def make_mark(name: str, size: int) -> str:
    """Make the mark for the results of a file of this name and size in bytes: a digest of both."""
    identity = os.fsencode(name) + b" %d" % size
    return f"SCFNet result of {hashlib.sha256(identity).hexdigest()[:16]}"


def add_mark(encoded: bytes, mark: str) -> bytes:
    """Put the mark into a PNG or JPEG file of OpenCV's; a WebP file stays as it is."""
    if encoded.startswith(b"RIFF"):
        return encoded
    if encoded.startswith(b"\x89PNG"):
        chunk = b"tEXtComment\0" + mark.encode()
        checksum = struct.pack(">I", zlib.crc32(chunk))
        comment = struct.pack(">I", len(chunk) - 4) + chunk + checksum
        return encoded[:PNG_HEADER] + comment + encoded[PNG_HEADER:]
    comment = b"\xff\xfe" + struct.pack(">H", len(mark) + 2) + mark.encode()
    return encoded[:JPEG_HEADER] + comment + encoded[JPEG_HEADER:]


def read_mark(path: Path) -> Optional[str]:
    """Read the mark of a result; None of any other file."""
    if not path.is_file():  # opening a pipe would wait for a writer
        return None
    try:
        with path.open("rb") as stream:
            head = stream.read(NEAR)
            stream.seek(-min(NEAR, stream.seek(0, os.SEEK_END)), os.SEEK_END)
            found = PATTERN.search(head + stream.read())
    except OSError:
        return None
    return found.group().decode() if found else None


def is_result(path: Path) -> bool:
    """Tell whether a file is a result; only those with a result's suffix are looked into."""
    suffixes = (".png", ".jpg", ".webp", ".mp4", ".mov", ".webm")
    return path.suffix in suffixes and read_mark(path) is not None
