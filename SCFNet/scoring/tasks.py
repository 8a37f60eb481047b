"""Scoring folders of saliency maps: which map belongs to which mask, and one pass over all."""

import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np
from tqdm import tqdm

from datasets.maps import check_not_turned, find_whites, read_map
from datasets.masks import read_mask
from datasets.sod import list_folder
from SCFNet.errors import InputError
from SCFNet.files import first_few
from SCFNet.metrics import PROTOCOLS, Score
from SCFNet.parallel import in_parallel
from SCFNet.prediction.rendering import ENDINGS

CHUNK = 16  # images that a worker scores at a time


class Pair(NamedTuple):
    """One image to score: its stem, its saliency map and its mask, and what is 1 in the map."""

    stem: str
    map: Path
    mask: Path
    white: float = 255.0


class Task(NamedTuple):
    """One cell of the table: a method's maps of a data set, and by stem what has no partner."""

    method: str
    data: str
    pairs: List[Pair]
    missing: List[str]
    extra: List[str]


class Result(NamedTuple):
    """The scores of a task over the maps that were there and could be read; by stem, the rest."""

    method: str
    data: str
    score: Score
    missing: List[str]
    extra: List[str]
    unreadable: List[str]


class Part(NamedTuple):
    """What a worker found: `Score.sums`, and by stem each image's values, or its fault."""

    sums: np.ndarray
    values: List[Tuple[str, Dict[str, float]]]
    faults: List[Tuple[str, str]]


Chunk = Tuple[str, List[Pair]]  # a protocol, and what to score by it
Scorer = Callable[[Sequence[Chunk]], Iterable[Part]]  # scores chunks, in order

# Called with method, data set, stem and the values of each image that was scored.
PerImage = Callable[[str, str, str, Dict[str, float]], None]


def pair_maps(
    method: str,
    data: str,
    folder: Path,
    masks: Dict[str, Path],
    allow_missing: bool,
) -> Task:
    """Pair the maps in `folder` with the masks of the same stems.

    Cut-outs and overlays of the maps, which tools/predict.py puts beside them, do not count.

    Args:
        method: the method's name, for the table.
        data: the data set's name, for the table.
        folder: where the maps are, at any depth.
        masks: the data set's masks by stem.
        allow_missing: leave out what has no partner, unless no pair is left.

    Raises InputError, with count and first names, for masks without map and maps without mask.
    """
    maps = list_folder(folder)
    pairs = [Pair(stem, maps[stem], mask) for stem, mask in masks.items() if stem in maps]
    missing = [stem for stem in masks if stem not in maps]
    extra = [stem for stem in maps if stem not in masks and not _is_rendering(stem, maps)]
    faults = []
    if missing:
        faults.append(f"{len(missing)} of {len(masks)} maps are missing ({first_few(missing)})")
    if extra:
        faults.append(f"{len(extra)} maps have no mask ({first_few(extra)})")
    if faults and (not allow_missing or not pairs):
        raise InputError(
            f"{folder}: {' and '.join(faults)}; --allow-missing scores those that have both"
        )
    whites = find_whites([pair.map for pair in pairs])
    pairs = [pair._replace(white=white) for pair, white in zip(pairs, whites)]
    return Task(method, data, pairs, missing, extra)


def _is_rendering(stem: str, maps: Dict[str, Path]) -> bool:
    """Tell whether a file is named as another picture of one of the maps."""
    endings = (Path(ending).stem for ending in ENDINGS.values() if ending.startswith("-"))
    return any(stem.endswith(end) and stem[: -len(end)] in maps for end in endings)


def score_tasks(
    tasks: List[Task],
    protocol: str,
    workers: int = 1,
    allow_missing: bool = False,
    per_image: Optional[PerImage] = None,
) -> List[Result]:
    """Score every task. Memory does not grow with their size.

    Args:
        tasks: the maps and masks, of `pair_maps`.
        protocol: a name of PROTOCOLS.
        workers: processes of one thread each; at 1 this process does all.
        allow_missing: average over the rest if files cannot be read, unless no file can.
        per_image: called with the values of each image.

    Raises InputError, with count and first names, for files that cannot be read, and if a worker
    is killed.
    """
    total = sum(len(task.pairs) for task in tasks)
    chunks = sum(-(-len(task.pairs) // CHUNK) for task in tasks)
    bar = tqdm(total=total, unit="map", desc="scoring", disable=None)
    results = []
    with _scorer(min(workers, chunks)) as score_chunks, bar:
        for task in tasks:
            score = PROTOCOLS[protocol]()
            faults: List[Tuple[str, str]] = []
            starts = range(0, len(task.pairs), CHUNK)
            parts = score_chunks([(protocol, task.pairs[i : i + CHUNK]) for i in starts])
            for part in parts:
                score.sums += part.sums
                faults += part.faults
                bar.update(len(part.values) + len(part.faults))
                if per_image:
                    for stem, own in part.values:
                        per_image(task.method, task.data, stem, own)
            names = [name for name, _ in faults]
            if faults and (not allow_missing or not score.count):
                raise InputError(
                    f"{task.method} on {task.data}: {len(faults)} of {len(task.pairs)} maps cannot"
                    f" be scored ({first_few(names)}): {faults[0][1]};"
                    " --allow-missing averages over the rest"
                )
            results.append(Result(task.method, task.data, score, task.missing, task.extra, names))
    return results


@contextmanager
def _scorer(workers: int) -> Iterator[Scorer]:
    """Provide what scores chunks: `workers` processes, or this process if they would be one."""
    if workers < 2:
        threads = cv2.getNumThreads()
        start_scoring()
        try:
            yield lambda chunks: map(_score_chunk, chunks)
        finally:
            cv2.setNumThreads(threads)
        return
    # the threads of numpy's BLAS, one per core in each worker, would fight for the cores
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, _start_worker) as pool:
        yield lambda chunks: _score_by(pool, chunks)


def start_scoring() -> None:
    """Make this process fast at scoring: OpenCV keeps to one thread, and memory is reused.

    glibc hands freed arrays back to the system until it has seen a larger block freed, and each
    new array then costs page faults: a third of the time of scoring. The block is never touched.
    """
    cv2.setNumThreads(1)
    np.empty(31 << 20, np.uint8)


def _score_by(pool: ProcessPoolExecutor, chunks: Sequence[Chunk]) -> Iterator[Part]:
    """Score by processes, in order. Raises InputError if one of them is killed."""
    try:
        yield from in_parallel(_score_chunk, chunks, pool=pool)
    except BrokenProcessPool as error:
        raise InputError(
            "a process that scored was killed, perhaps as memory was short; try fewer workers"
        ) from error


def _start_worker() -> None:
    start_scoring()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process


def _score_chunk(chunk: Chunk) -> Part:
    """Score some pairs by a protocol."""
    protocol, pairs = chunk
    score = PROTOCOLS[protocol]()
    values, faults = [], []
    for pair in pairs:
        try:
            saliency, mask = read_map(pair.map, pair.white), read_mask(pair.mask)
            check_not_turned(pair.map, saliency, *mask.shape[::-1])
            values.append((pair.stem, score.add(saliency, mask)))
        except InputError as error:
            faults.append((pair.stem, str(error)))
        except ValueError as error:
            faults.append((pair.stem, f"{pair.map}: {error}"))
    return Part(score.sums, values, faults)
