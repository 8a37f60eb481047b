"""The list of a data set, train.txt or test.txt: which photos it names, and which masks."""

import unicodedata
from pathlib import Path, PurePosixPath
from typing import Collection, List, Optional, Tuple

from datasets.layout import IMAGES, MASKS, Layout, find_name, is_called
from SCFNet.errors import InputError
from SCFNet.photos.formats import IMAGE_SUFFIXES


def find_list(root: Path, split: str) -> Optional[Path]:
    """Find the list of `split` ('train' or 'test') in `root`, else the other one, else None."""
    paths = (find_name(root, f"{name}.txt") for name in (split, "train", "test"))
    return next(filter(None, paths), None)


def read_list(path: Path, layout: Layout) -> List[Tuple[str, Optional[str]]]:
    """Return the stems of the photos that a list names, line by line, each with its mask's stem.

    A line is a stem, or a path with folder or suffix, and may go on with that of the mask in a
    second column. Backslashes are slashes. UTF-8 and UTF-16 are read, with or without a byte-order
    mark. Raises InputError for what is neither, or no file.
    """
    if not path.is_file():  # a link to nothing, or a pipe, which might never end
        raise InputError(f"{path}: is not a file")
    try:
        text = unicodedata.normalize("NFC", _decode(path.read_bytes()))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 or UTF-16 text: {error}") from error
    found = []
    for line in filter(None, map(str.strip, text.splitlines())):
        first, second = line, line
        if _stem(line, layout.images) is None:
            columns = line.split(next((mark for mark in "\t,;" if mark in line), None))
            first, second = columns[0].strip(), columns[min(1, len(columns) - 1)].strip()
        mask = _stem(second, layout.masks)
        stem = _stem(first, layout.images) or mask or _bare(line)
        found.append((stem, mask or layout.partners.get(stem)))
    return found


def _decode(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16")
    if b"\0" in data[:2]:
        return data.decode("utf-16-be" if data[0] == 0 else "utf-16-le")
    return data.decode("utf-8-sig")


def _stem(text: str, known: Collection[str]) -> Optional[str]:
    """Find the stem among `known` that a list means by `text`; None if it is not there."""
    bare = _bare(text)
    parts = bare.split("/")
    elsewhere = not parts[0] or parts[0].endswith(":")  # an absolute path, of another machine
    in_folders = (
        "/".join(parts[i + 1 :])
        for i, name in enumerate(parts)
        if elsewhere or is_called(name, (*IMAGES, *MASKS))
    )
    return next((stem for stem in (text, bare, *in_folders) if stem in known), None)


def _bare(text: str) -> str:
    """Give `text` slashes, and take the suffix of an image file off."""
    path = PurePosixPath(text.strip("\"'").replace("\\", "/"))
    return str(path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path)
