"""What to predict: the files that a person's inputs name, and what is left out of them."""

import glob
import os
import re
from collections import Counter
from pathlib import Path
from typing import Counter as CounterType
from typing import Dict, Iterator, List, NamedTuple, Sequence, Tuple

from SCFNet.errors import InputError
from SCFNet.files import exists, first_few, is_folder, is_hidden
from SCFNet.photos.formats import IMAGE_SUFFIXES
from SCFNet.prediction.marks import is_result

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".wmv", ".asf", ".flv", ".ogv"),
    *(".3gp", ".3g2", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".vob"),
)
# kinds of what is left out
RESULTS, VIDEOS, HIDDEN = "results of earlier runs", "videos", "hidden files"
URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


class Found(NamedTuple):
    """An input, and its path below the folder or pattern that was named (its name, if none was).

    `fault` is the error, in one line, if it is known before the input is read.
    """

    source: Path
    relative: Path
    fault: str = ""


def is_video(path: Path) -> bool:
    """Return whether the name is a video's."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def is_image(path: Path) -> bool:
    """Return whether the name is an image's."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def find_inputs(inputs: Sequence[str], output: Path) -> Tuple[List[Found], CounterType[str]]:
    """Find the files that `inputs` name, each once, and count what was left out, by kind.

    An input is an image or video file, a folder or a glob pattern. A folder is searched for images
    at any depth, also through links, but not in `output`. What lies in hidden folders and those of
    network drives (`is_hidden`), and results of earlier runs, count if they are named, not if a
    folder or a pattern has them. What is not there, a URL, and a folder without photos are among
    the files, with a fault. Raises InputError for an input without a name.
    """
    left_out: CounterType[str] = Counter()
    found: Dict[str, Found] = {}
    for text in inputs:
        for each in _find(text, output, left_out):
            found.setdefault(_entry(each.source), each)
    return list(found.values()), left_out


def describe(left_out: CounterType[str]) -> str:
    """Return the counts in words, the largest first: 'videos (3), .txt (1)'."""
    return first_few([f"{kind} ({count})" for kind, count in left_out.most_common()])


def _find(text: str, output: Path, left_out: CounterType[str]) -> Iterator[Found]:
    path = Path(text)
    if not text:  # which Path takes for the current folder
        raise InputError("an INPUT is empty: name a file, a folder or a pattern")
    if URL.match(text):
        yield Found(path, Path(path.name), f"{text}: is a URL; download it and name the file")
    elif is_folder(path):
        yield from _walk(path, output, left_out)
    elif exists(path) or not glob.has_magic(text):
        yield Found(path, Path(path.name))
    else:
        yield from _match(text, left_out)


def _match(pattern: str, left_out: CounterType[str]) -> Iterator[Found]:
    """Yield the files that match a pattern, or the pattern with a fault if none does.

    Brackets in the folders that exist are a part of their names, and so are the others if the
    pattern matches nothing.
    """
    path = Path(pattern)
    fixed = next(folder for folder in path.parents if exists(folder))
    rest = str(path.relative_to(fixed))
    matches = _glob(fixed, rest) or _glob(fixed, rest.replace("[", "[[]"))
    files = [path for path in matches if path.is_file()]
    for path in files:
        relative = path.relative_to(fixed)
        hidden = [part for part in relative.parts[:-1] if is_hidden(part)]
        if hidden:
            left_out[f"in {hidden[0]}"] += 1
        elif is_result(path):
            left_out[RESULTS] += 1
        else:
            yield Found(path, relative)
    if not files:
        yield Found(path, Path(path.name), f"{pattern}: no file has such a name")


def _glob(folder: Path, pattern: str) -> List[Path]:
    """Return the paths below `folder` that match a pattern, sorted."""
    escaped = os.path.join(glob.escape(str(folder)), pattern)  # noqa: PTH118
    return sorted(map(Path, glob.glob(escaped, recursive=True)))  # noqa: PTH207  Path.glob has no absolute patterns


def _walk(folder: Path, output: Path, left_out: CounterType[str]) -> Iterator[Found]:
    """Yield the images below `folder`, sorted by path, and with a fault each folder that cannot be
    listed, and `folder` if it has no images.
    """
    unlisted: List[OSError] = []
    visited = {os.path.realpath(folder), os.path.realpath(output)}
    here: CounterType[str] = Counter()
    photos = 0
    for place, folders, names in os.walk(folder, onerror=unlisted.append, followlinks=True):
        for name in filter(is_hidden, folders):
            here[f"in {name}"] += _count_images(Path(place, name))
        real = {n: os.path.realpath(Path(place, n)) for n in folders if not is_hidden(n)}
        folders[:] = sorted(name for name in real if real[name] not in visited)
        visited.update(real.values())
        for name in sorted(names):
            source = Path(place, name)
            if is_hidden(name):
                here[HIDDEN] += is_image(source)
            elif not is_image(source):
                here[VIDEOS if is_video(source) else source.suffix.lower() or "others"] += 1
            elif is_result(source):
                here[RESULTS] += 1
            else:
                photos += 1
                yield Found(source, source.relative_to(folder))
    here += Counter()  # without what counts 0
    for error in unlisted:
        closed = Path(os.fsdecode(error.filename))
        yield Found(closed, Path(closed.name), f"{closed}: cannot be listed: {error.strerror}")
    if photos or unlisted or here[RESULTS]:
        left_out.update(here)
    else:
        fault = f"{folder}: no photos found"
        fault += f", only {describe(here)}" if here else ", it is empty"
        if here[VIDEOS]:
            fault += f"; name videos one by one, or by a pattern: '{folder}/*.mp4'"
        yield Found(folder, Path(folder.name), fault)


def _count_images(folder: Path) -> int:
    """Count the images below a folder."""
    return sum(is_image(Path(name)) for _, _, names in os.walk(folder) for name in names)


def _entry(path: Path) -> str:
    """Return where a file lies, whatever links lead there; a link to a file is its own file."""
    return os.path.join(os.path.realpath(path.parent), path.name)  # noqa: PTH118
