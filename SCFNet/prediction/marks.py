"""The mark in a result, which says that it is one, of which input it was made, and by what.

It lets a folder that holds results be read as a folder of photos, and `jobs.has_results` tell the
result of one `a.jpg` from that of another, and from one of other weights or settings. PNG and JPEG
files have it near their beginning, as a comment, as WebM files have; WebP, MP4 and MOV files near
their end. A partial result, of a video that breaks off, has that of no input.
"""

import hashlib
import os
import re
from pathlib import Path
from typing import BinaryIO, Optional, Tuple

BEGINNING = "SCFNet result of "
PATTERN = re.compile(BEGINNING.encode() + rb"[0-9a-f]{16}(?: by [0-9a-f]{16})?")
PARTIAL = BEGINNING + 16 * "0"  # no digest is that
NEAR = 16384  # bytes from either end of a file; in WebM the titles of the sound come first


def mark_of(source: Path, made_by: str = "") -> str:
    """Make the mark for the results of `source`; see `make_mark`."""
    return make_mark(source.name, source.stat().st_size if source.is_file() else 0, made_by)


def make_mark(name: str, size: int, made_by: str = "") -> str:
    """Make the mark for the results of a file of this name and size in bytes: a digest of both, and
    `made_by`, what `Predictor.made_by` returns, if it is known.
    """
    identity = os.fsencode(name) + b" %d" % size
    mark = f"{BEGINNING}{hashlib.sha256(identity).hexdigest()[:16]}"
    return f"{mark} by {made_by}" if made_by else mark


def read_mark(path: Path) -> Optional[str]:
    """Read the mark of a result; None of any other file."""
    if not path.is_file():  # opening a pipe would wait for a writer
        return None
    try:
        with path.open("rb") as stream:
            return _find_mark(stream)[1] or None
    except OSError:
        return None


def mark_as_partial(stream: BinaryIO) -> None:
    """Overwrite the mark in a result, open for reading and writing: it is never taken as done."""
    place, mark = _find_mark(stream)
    if mark:
        stream.seek(place)
        stream.write(PARTIAL.encode())


def is_partial(path: Path) -> bool:
    """Return whether a file is a partial result."""
    return (read_mark(path) or "").startswith(PARTIAL)


def _find_mark(stream: BinaryIO) -> Tuple[int, str]:
    """Return the place of the mark in an open file, in bytes, and the mark; (0, '') without one."""
    size = stream.seek(0, os.SEEK_END)
    for start in (0, max(0, size - NEAR)):
        stream.seek(start)
        found = PATTERN.search(stream.read(NEAR))
        if found:
            return start + found.start(), found.group().decode()
    return 0, ""


def is_result(path: Path) -> bool:
    """Return whether a file is a result; only those with a result's suffix are looked into."""
    suffixes = (".png", ".jpg", ".jpeg", ".webp", ".mp4", ".mov", ".webm")
    return path.suffix.lower() in suffixes and read_mark(path) is not None
