"""Scoring folders of saliency maps: which map belongs to which mask, and one pass over all."""

import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from itertools import repeat
from pathlib import Path
from typing import Callable, ContextManager, Dict, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np
from tqdm import tqdm

from datasets.maps import check_not_turned, find_whites, read_map
from datasets.masks import read_mask
from datasets.matching import match_stems
from datasets.sod import list_folder
from SCFNet.errors import InputError
from SCFNet.files import first_few
from SCFNet.metrics import PROTOCOLS, Score
from SCFNet.prediction.rendering import ENDINGS

CHUNK = 16  # images that a worker scores at a time


class Pair(NamedTuple):
    """One image to score: its stem, its saliency map, its mask, and what is 1 in the map."""

    stem: str
    map: Path
    mask: Path
    white: float = 255.0


class Task(NamedTuple):
    """One cell of the table: a method's maps of a data set with their masks; the stems of masks
    without map (`missing`), and of maps without mask (`extra`). `note` says by which pattern of
    names they were paired, '' if the names are equal.
    """

    method: str
    data: str
    pairs: List[Pair]
    missing: List[str]
    extra: List[str]
    note: str = ""


class Result(NamedTuple):
    """The scores of a task over the maps that could be read, and the stems of those left out."""

    method: str
    data: str
    score: Score
    missing: List[str]
    extra: List[str]
    unreadable: List[str]


class Part(NamedTuple):
    """The scores of some pairs: `Score.sums`, and by stem each image's values, or its fault."""

    sums: np.ndarray
    values: List[Tuple[str, Dict[str, float]]]
    faults: List[Tuple[str, str]]


# Called with method, data set, stem and the values of each image that was scored.
PerImage = Callable[[str, str, str, Dict[str, float]], None]


def pair_maps(
    method: str, data: str, folder: Path, masks: Dict[str, Path], allow_missing: bool
) -> Task:
    """Pair the maps in `folder` with the `masks` of the same stems, or of stems that one suffix or
    prefix tells apart (`match_stems`).

    Cut-outs and overlays that tools/predict.py puts beside its maps do not count. Raises
    InputError, with count and first names, for masks without map and maps without mask; with
    `allow_missing` only if no pair is left.
    """
    maps = list_folder(folder)
    known = [stem for stem in maps if stem in masks or not _is_rendering(stem, maps)]
    found, pattern = match_stems(masks, known)
    whites = find_whites(maps.values())
    pairs = [
        Pair(stem, maps[found[stem]], mask, whites[maps[found[stem]]])
        for stem, mask in masks.items()
        if stem in found
    ]
    missing = [stem for stem in masks if stem not in found]
    used = set(found.values())
    extra = [stem for stem in known if stem not in used]
    faults = []
    if missing:
        faults.append(f"{len(missing)} of {len(masks)} maps are missing ({first_few(missing)})")
    if extra:
        faults.append(f"{len(extra)} maps have no mask ({first_few(extra)})")
    if faults and (not allow_missing or not pairs):
        raise InputError(
            f"{folder}: {' and '.join(faults)}; --allow-missing scores those that have both"
        )
    note = f"{folder}: {len(pairs)} maps are matched as {pattern}" if pattern else ""
    return Task(method, data, pairs, missing, extra, note)


def _is_rendering(stem: str, maps: Dict[str, Path]) -> bool:
    """Return whether a file has the name of a cut-out or an overlay of one of the maps."""
    endings = (Path(ending).stem for ending in ENDINGS.values() if ending.startswith("-"))
    return any(stem.endswith(end) and stem[: -len(end)] in maps for end in endings)


def score_tasks(
    tasks: List[Task],
    protocol: str,
    workers: int = 1,
    allow_missing: bool = False,
    per_image: Optional[PerImage] = None,
    binary: Sequence[str] = (),
) -> List[Result]:
    """Score every task by `protocol`, a name of PROTOCOLS, and by the names `binary` of
    `metrics.BINARY`. Memory does not grow with their size.

    `workers` are processes of one thread each; at 1 this process does all. `per_image` is called
    with the values of each image. Raises InputError, with count and first names, for files that
    cannot be read (with `allow_missing` only if none can), and if a worker is killed.
    """
    total = sum(len(task.pairs) for task in tasks)
    workers = min(workers, sum(-(-len(task.pairs) // CHUNK) for task in tasks))
    bar = tqdm(total=total, unit="map", desc="scoring", disable=None)
    results = []
    try:
        with _processes(workers) as pool, bar:
            run = pool.map if pool else map
            for task in tasks:
                score = PROTOCOLS[protocol](binary=binary)
                faults: List[Tuple[str, str]] = []
                chunks = [task.pairs[i : i + CHUNK] for i in range(0, len(task.pairs), CHUNK)]
                for part in run(_score_chunk, repeat(protocol), repeat(binary), chunks):
                    score.sums += part.sums
                    faults += part.faults
                    bar.update(len(part.values) + len(part.faults))
                    if per_image:
                        for stem, own in part.values:
                            per_image(task.method, task.data, stem, own)
                names = [name for name, _ in faults]
                if faults and (not allow_missing or not score.count):
                    raise InputError(
                        f"{task.method} on {task.data}: {len(faults)} of {len(task.pairs)} maps"
                        f" cannot be scored ({first_few(names)}): {faults[0][1]};"
                        " --allow-missing averages over the rest"
                    )
                results.append(
                    Result(task.method, task.data, score, task.missing, task.extra, names)
                )
    except BrokenProcessPool as error:
        raise InputError(
            "a process that scored was killed, perhaps as memory was short; try fewer workers"
        ) from error
    return results


def _processes(workers: int) -> ContextManager[Optional[ProcessPoolExecutor]]:
    """Start `workers` processes; none if they would be one, which this process is."""
    if workers < 2:
        return nullcontext()
    # the threads of numpy's BLAS, one per core in each worker, would fight for the cores
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, spawn, _start_worker)


def _start_worker() -> None:
    cv2.setNumThreads(1)  # each worker has a core
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process


def _score_chunk(protocol: str, binary: Sequence[str], pairs: List[Pair]) -> Part:
    """Score some pairs by a protocol."""
    score = PROTOCOLS[protocol](binary=binary)
    values, faults = [], []
    for pair in pairs:
        try:
            saliency, mask = read_map(pair.map, pair.white), read_mask(pair.mask)
            check_not_turned(pair.map, saliency.shape, mask.shape)
            values.append((pair.stem, score.add(saliency, mask)))
        except InputError as error:
            faults.append((pair.stem, str(error)))
        except ValueError as error:
            faults.append((pair.stem, f"{pair.map}: {error}"))
    return Part(score.sums, values, faults)
