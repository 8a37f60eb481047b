"""Where each result goes: names that no two inputs share, and that never are an input's own."""

import hashlib
import os
from collections import defaultdict
from functools import lru_cache
from pathlib import Path
from typing import Callable, DefaultDict, Dict, Iterator, List, NamedTuple, Sequence, Set, Tuple

from SCFNet.files import exists, without_suffix
from SCFNet.photos.formats import IMAGE_SUFFIXES
from SCFNet.prediction.inputs import VIDEO_SUFFIXES, Found, find_inputs, is_video
from SCFNet.prediction.marks import is_result, mark_of, read_mark
from SCFNet.prediction.rendering import ENDINGS


class Job(NamedTuple):
    """One input, and the files that are to be made of it, in the order of the endings.

    `fault` is the error, in one line, if it is known before the input is read; `made_by` is what
    `Predictor.made_by` returns, for the mark.
    """

    source: Path
    targets: Tuple[Path, ...]
    fault: str = ""
    made_by: str = ""

    @property
    def mark(self) -> str:
        """The mark for the results."""
        return mark_of(self.source, self.made_by)


def plan_jobs(
    inputs: Sequence[str],
    output: Path,
    endings: Sequence[str],
    keep: Sequence[Path] = (),
    video_endings: Sequence[str] = (),
) -> List[Job]:
    """Find the files that `inputs` name, and name their results: `find_inputs`, `name_results`."""
    return name_results(find_inputs(inputs, output)[0], output, endings, keep, video_endings)


def name_results(
    found: Sequence[Found],
    output: Path,
    endings: Sequence[str],
    keep: Sequence[Path] = (),
    video_endings: Sequence[str] = (),
) -> List[Job]:
    """Name the results of the files that were found, below `output`; return a job for each.

    A name is the file's path below the folder that was named, without an image's or a video's
    suffix, and one of `endings`; for a video one of `video_endings`, by default `endings` with
    '.mp4'. It grows until it is nobody else's, nor that of an input or of a file in `keep`: by the
    file's suffix ('a.jpg.png'), then by the folders above ('trip/a.jpg.png').

    The suffix is there from the first if another file in the folder, predicted or not, could have
    the same name, so that a name does not depend on what else is predicted.
    """
    video_endings = video_endings or [ending[: ending.rindex(".")] + ".mp4" for ending in endings]
    chosen = [video_endings if is_video(f.source) else endings for f in found]
    claims_in = lru_cache(maxsize=None)(_claims_in)
    efforts = [int(_has_twin(f.source, claims_in(f.source.parent))) for f in found]
    while True:
        jobs = [
            Job(f.source, tuple(output / name for name in _names(f, effort, own)), f.fault)
            for f, effort, own in zip(found, efforts, chosen)
        ]
        clashing = _clashing(jobs, keep)
        if not clashing:
            return jobs
        for i in clashing:
            efforts[i] += 1


def in_shard(found: Found, number: int, shards: int) -> bool:
    """Return whether a file is in shard `number`, 1 to `shards`: by a digest of its path below the
    folder that was named, so that each machine finds the same, wherever the folder is mounted.
    """
    digest = hashlib.sha256(os.fsencode(found.relative.as_posix())).digest()
    return int.from_bytes(digest, "big") % shards == number - 1


def has_results(job: Job) -> bool:
    """Return whether all targets of a job are there, and none is a result of another input, or made
    by other weights or settings, if its mark says by which.
    """
    if job.fault or not all(map(exists, job.targets)):
        return False
    return all(job.mark.startswith(read_mark(target) or "") for target in job.targets)


def _has_twin(source: Path, claims: Dict[str, List[Path]]) -> bool:
    """Return whether another file in its folder claims one of its names; `claims` are those of
    `_claims_in` for the folder.
    """
    rivals = (path for claim in _claims(source) for path in claims.get(claim, ()))
    return any(path.name != source.name and not is_result(path) for path in rivals)


def _claims_in(folder: Path) -> Dict[str, List[Path]]:
    """Return the files in a folder, under each of their `_claims`."""
    claims: DefaultDict[str, List[Path]] = defaultdict(list)
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_file():  # without a suffix, or with a strange one, it may be an image
            for claim in _claims(path):
                claims[claim].append(path)
    return claims


def _claims(path: Path) -> List[str]:
    """Return the shortest names of all results that `path` can have, without their format and
    their case, which some file systems ignore.
    """
    names = _names(Found(path, Path(path.name)), 0, list(ENDINGS.values()))
    kind = ".video" if is_video(path) else ".picture"
    return [name.casefold().rpartition(".")[0] + kind for name in names]


def _names(found: Found, effort: int, endings: Sequence[str]) -> Iterator[str]:
    """Yield the names of a file's results: its stem, with more `effort` its whole name, then its
    folders too, and at last a digest of its path.
    """
    path = found.source.absolute()
    parts = path.parts[1:]
    if effort == 0:
        name = str(without_suffix(found.relative, (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)))
    elif effort == 1:
        name = str(found.relative)
    elif effort <= len(parts):
        name = str(Path(*parts[-effort:]))
    else:
        digest = hashlib.sha256(os.fsencode(path) + b" %d" % effort).hexdigest()
        name = f"{found.relative}-{digest[:8]}"
    for ending in endings:
        yield name + ending


def _clashing(jobs: Sequence[Job], keep: Sequence[Path]) -> Set[int]:
    """Find the indices of jobs with a target that is another's too, or a file that must stay: an
    input, one in `keep`, or a picture beside the input that is no result.
    """
    real = lru_cache(maxsize=None)(os.path.realpath)
    kept = {
        identity
        for path in (*keep, *(j.source for j in jobs))
        for identity in _identities(path, real)
    }
    claims: DefaultDict[str, Set[int]] = defaultdict(set)
    clashing = set()
    for i, job in enumerate(jobs):
        home = real(job.source.parent)
        for target in job.targets:
            mine = _identities(target, real)
            for identity in mine:
                claims[identity].add(i)
            strange = exists(target) and real(target.parent) == home and not is_result(target)
            if strange or kept & mine:
                clashing.add(i)
    return clashing.union(*(claim for claim in claims.values() if len(claim) > 1))


def _identities(path: Path, real: Callable[[Path], str]) -> Set[str]:
    """Return what identifies a file; two paths to one file have one of these in common: where it
    lies, without case and links, where a link leads, and its device and inode.
    """
    place = os.path.join(real(path.parent), path.name)  # noqa: PTH118
    identities = {place.casefold()}
    try:
        status = path.stat()
    except OSError:
        return identities
    return identities | {real(path).casefold(), f"{status.st_dev} {status.st_ino}"}
