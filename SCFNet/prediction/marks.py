"""The mark in a result, which says that it is one, of which input it was made, and by what.

It lets a folder that holds results be read as a folder of photos, and `jobs.has_results` tell the
result of one `a.jpg` from that of another, and from one of other weights or settings. PNG and JPEG
files have it near their beginning, as a comment, as WebM files have; WebP, MP4 and MOV files near
their end.
"""

import hashlib
import os
import re
from pathlib import Path
from typing import Optional

PATTERN = re.compile(rb"SCFNet result of [0-9a-f]{16}(?: by [0-9a-f]{16})?")
NEAR = 2048  # bytes from either end of a file


def mark_of(source: Path, made_by: str = "") -> str:
    """Make the mark for the results of `source`; see `make_mark`."""
    return make_mark(source.name, source.stat().st_size if source.is_file() else 0, made_by)


def make_mark(name: str, size: int, made_by: str = "") -> str:
    """Make the mark for the results of a file of this name and size in bytes: a digest of both, and
    `made_by`, what `Predictor.made_by` returns, if it is known.
    """
    identity = os.fsencode(name) + b" %d" % size
    mark = f"SCFNet result of {hashlib.sha256(identity).hexdigest()[:16]}"
    return f"{mark} by {made_by}" if made_by else mark


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
    """Return whether a file is a result; only those with a result's suffix are looked into."""
    suffixes = (".png", ".jpg", ".jpeg", ".webp", ".mp4", ".mov", ".webm")
    return path.suffix.lower() in suffixes and read_mark(path) is not None
