"""What to predict, and where each result goes: files, folders and patterns become jobs."""

import glob
import os
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Sequence, Set, Tuple

from datasets.decoding import IMAGE_SUFFIXES

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm")


class Job(NamedTuple):
    """One input, and the files that are to be made of it, in the order of the endings."""

    source: Path
    targets: Tuple[Path, ...]


class Found(NamedTuple):
    """An input file, and its path below the folder that was named (its name, if none was)."""

    source: Path
    relative: Path


def is_video(path: Path) -> bool:
    """Whether the name is a video's."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def plan_jobs(inputs: Sequence[str], output: Path, endings: Sequence[str]) -> List[Job]:
    """The jobs for `inputs`: image and video files, folders (searched recursively for images,
    their tree is kept below `output`) and glob patterns. A result is named after the stem and one
    of `endings`, of which a video's results have '.mp4' for the suffix.

    Where that name would be taken twice, or is an input's own, the names of all who claim it grow:
    by the suffix ('a.jpg.png'), then by the folders above ('trip/a.jpg.png'). The same file named
    twice is one job. A name that matches nothing becomes a job too, which fails when it is read.
    """
    every = (found for text in inputs for found in _find(text, output))
    found = list({_absolute(f.source): f for f in every}.values())
    effort = [0] * len(found)
    while True:
        jobs = [
            Job(f.source, tuple(output / (_name(f, effort[i], i) + _ending(f, e)) for e in endings))
            for i, f in enumerate(found)
        ]
        clashing = _clashing(jobs)
        if not clashing:
            return jobs
        for i in clashing:
            effort[i] += 1


def _find(text: str, output: Path) -> Iterator[Found]:
    path = Path(text)
    if path.is_dir():
        yield from _walk(path, output)
    elif path.exists() or not glob.has_magic(text):
        yield Found(path, Path(path.name))
    else:
        matches = sorted(glob.glob(text, recursive=True))  # noqa: PTH207  Path.glob has no absolute patterns
        for match in matches:
            if Path(match).is_file():
                yield Found(Path(match), Path(Path(match).name))
        if not matches:
            yield Found(path, Path(path.name))


def _absolute(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100  Path.resolve asks the disk about every folder


def _walk(folder: Path, output: Path) -> Iterator[Found]:
    """The images below `folder`, without hidden ones and without what lies in `output`."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and _absolute(Path(place) / name) != _absolute(output)
        )
        for name in sorted(names):
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith("."):
                source = Path(place) / name
                yield Found(source, source.relative_to(folder))


def _name(found: Found, effort: int, index: int) -> str:
    """The result's name without its ending: the more `effort`, the less likely it is taken."""
    if effort == 0:
        return str(found.relative.with_suffix(""))
    if effort == 1:
        return str(found.relative)
    parts = found.source.absolute().parts[1:]
    if effort <= len(parts):
        return str(Path(*parts[-effort:]))
    return f"{found.relative}-{index}-{effort}"


def _ending(found: Found, ending: str) -> str:
    return ending[: ending.rindex(".")] + ".mp4" if is_video(found.source) else ending


def _clashing(jobs: List[Job]) -> Set[int]:
    """The indices of jobs with a target that is another's too, or a source. Case is ignored, as
    some file systems do.
    """
    claims: Dict[str, Set[int]] = {}
    for i, job in enumerate(jobs):
        claims.setdefault(_absolute(job.source).casefold(), set()).add(-1)
        for target in job.targets:
            claims.setdefault(_absolute(target).casefold(), set()).add(i)
    return {i for claim in claims.values() if len(claim) > 1 for i in claim if i >= 0}
