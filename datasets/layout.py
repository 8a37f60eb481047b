"""How data sets lie on the disk as they are downloaded: folders' names, files by stem, lists."""

import os
import re
from pathlib import Path, PurePosixPath
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

from SCFNet.errors import InputError
from SCFNet.files import PathLike, check_is_folder
from SCFNet.photos.formats import IMAGE_SUFFIXES

IMAGES = ("image", "images", "img", "imgs", "im")
MASKS = ("mask", "masks", "gt", "gts", "truth", "groundtruth")
LISTS = ("train.txt", "test.txt")
LAYOUT = "a data set is image/*.jpg, mask/*.png and, optionally, train.txt or test.txt"
PHOTOS_LAYOUT = "a set without masks is a folder of photos, at any depth"


def is_called(folder: Path, kind: Sequence[str]) -> bool:
    """Tell whether a folder has a name of `kind`, IMAGES or MASKS: in any case, with anything
    before it ('DUTS-TR-Image'), and with '_aug' after it ('gt_aug').
    """
    return _words(folder)[-1] in kind


def find_folder(root: Path, kind: Sequence[str]) -> Optional[Path]:
    """Find the folder in `root` that has a name of `kind`, IMAGES or MASKS; None if there is none.

    Of several the one with the shorter, then the earlier name counts: `mask` before `gt` before
    `gt_aug`. Raises InputError if none is first: `DUTS-TR-Image` beside `DUTS-TE-Image`.
    """
    check_is_folder(root, LAYOUT)
    found = [path for path in root.iterdir() if path.is_dir() and is_called(path, kind)]
    rank = {path: (len(_words(path)), kind.index(_words(path)[-1])) for path in found}
    if not found:
        return None
    best = [path for path in found if rank[path] == min(rank.values())]
    exact = [path for path in best if path.name in kind]
    if len(best) > 1 and len(exact) != 1:
        names = " and ".join(sorted(path.name for path in best))
        raise InputError(f"{root}: has {names}: name a folder with one of them")
    return (exact or best)[0]


def files_by_stem(folder: Path) -> Tuple[Dict[str, Path], List[str]]:
    """Find every image file below `folder`, at any depth, by its path there without the suffix; and
    the faults, one for each second file of a stem.
    """
    found: Dict[str, Path] = {}
    faults = []
    for path in _walk(folder):
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
            stem = path.relative_to(folder).with_suffix("").as_posix()
            if found.setdefault(stem, path) != path:
                faults.append(f"{path} has the stem of another file")
    return found, faults


def find_list(root: Path, split: str) -> Optional[Path]:
    """Find the list of `split` ('train' or 'test') in `root`, else the other one, else None."""
    paths = [root / name for name in (f"{split}.txt", *LISTS)]
    return next((path for path in paths if path.exists() or path.is_symlink()), None)


def read_list(path: PathLike, images: Dict[str, Path], masks: Dict[str, Path]) -> Dict[str, str]:
    """Read the stems that a list names, in its order; for each the stem of its mask.

    A line is a stem, or a path with folder or suffix, and may go on with that of the mask in a
    second column. Backslashes are slashes. UTF-8 and UTF-16 are read, with or without a byte-order
    mark. Raises InputError for what is neither, or no file.
    """
    if not Path(path).is_file():  # a link to nothing, or a pipe, which might never end
        raise InputError(f"{path}: is not a file")
    try:
        lines = _decode(Path(path).read_bytes()).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 or UTF-16 text: {error}") from error
    stems: Dict[str, str] = {}
    for line in filter(None, map(str.strip, lines)):
        first, second = line, line
        if _stem(line, images) is None:
            columns = line.split(next((mark for mark in "\t,;" if mark in line), None))
            first, second = columns[0].strip(), columns[min(1, len(columns) - 1)].strip()
        stem = _stem(first, images) or _stem(second, masks) or _bare(line)
        stems.setdefault(stem, _stem(second, masks) or stem)
    return stems


def _words(folder: Path) -> List[str]:
    words = re.split(r"[-_ .]+", folder.name.lower())
    return words[:-1] if words[-1] == "aug" and len(words) > 1 else words


def _walk(folder: Path) -> Iterator[Path]:
    """Walk the files below `folder`, sorted; through links, but not to a folder above them."""
    for parent, folders, names in os.walk(folder, followlinks=True):
        here = os.path.realpath(parent)
        folders[:] = sorted(
            name
            for name in folders
            if not (here + os.sep).startswith(os.path.realpath(Path(parent, name)) + os.sep)
        )
        yield from (Path(parent, name) for name in sorted(names))


def _decode(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16")
    if b"\0" in data[:2]:
        return data.decode("utf-16-be" if data[0] == 0 else "utf-16-le")
    return data.decode("utf-8-sig")


def _stem(text: str, known: Dict[str, Path]) -> Optional[str]:
    """Find the stem among `known` that a list means by `text`; None if it is not there."""
    bare = _bare(text)
    parts = bare.split("/")
    in_folders = (
        "/".join(parts[i + 1 :])
        for i, name in enumerate(parts)
        if is_called(Path(name), (*IMAGES, *MASKS))
    )
    return next((stem for stem in (text, bare, *in_folders) if stem in known), None)


def _bare(text: str) -> str:
    """Give `text` slashes, and take the suffix of an image file off."""
    path = PurePosixPath(text.strip("\"'").replace("\\", "/"))
    return str(path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path)
