"""Scoring folders of saliency maps: which map belongs to which mask, and one pass over all."""

import multiprocessing
import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

import cv2
from tqdm import tqdm

from datasets.files import InputError, first_few
from datasets.images import read_grey
from datasets.sod import list_folder
from SCFNet.metrics import PROTOCOLS, Score

CHUNK = 16  # images that a worker scores at a time


class Pair(NamedTuple):
    """One image to score: its stem, its saliency map and its mask."""

    stem: str
    map: Path
    mask: Path


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


# Called with method, data set, stem and the values of each image that was scored.
PerImage = Callable[[str, str, str, Dict[str, float]], None]


def pair_maps(
    method: str,
    data: str,
    folder: Path,
    masks: Dict[str, Path],
    allow_missing: bool,
) -> Task:
    """The task for the maps in `folder` and the masks by stem.

    Raises InputError, with count and first names, for masks without map and maps without mask;
    with `allow_missing` only if no pair is left.
    """
    maps = list_folder(folder)
    pairs = [Pair(stem, maps[stem], mask) for stem, mask in masks.items() if stem in maps]
    missing = [stem for stem in masks if stem not in maps]
    extra = [stem for stem in maps if stem not in masks]
    faults = []
    if missing:
        faults.append(f"{len(missing)} of {len(masks)} maps are missing ({first_few(missing)})")
    if extra:
        faults.append(f"{len(extra)} maps have no mask ({first_few(extra)})")
    if faults and (not allow_missing or not pairs):
        raise InputError(
            f"{folder}: {' and '.join(faults)}; --allow-missing scores those that have both"
        )
    return Task(method, data, pairs, missing, extra)


def score_tasks(
    tasks: List[Task],
    protocol: str,
    workers: int = 1,
    allow_missing: bool = False,
    per_image: Optional[PerImage] = None,
) -> List[Result]:
    """Score every task by `protocol`, a name of PROTOCOLS, in `workers` processes of one thread.

    Raises InputError, with count and first names, for files that cannot be read; with
    `allow_missing` only if a task has no file that can. Memory does not grow with the tasks.
    """
    with ExitStack() as stack:
        if workers > 1:
            # the threads of numpy's BLAS, one per core in each worker, would fight for the cores
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
            context = multiprocessing.get_context("spawn")
            run = stack.enter_context(context.Pool(workers, initializer=_start_worker)).imap
        else:
            stack.callback(cv2.setNumThreads, cv2.getNumThreads())
            cv2.setNumThreads(1)
            run = map
        total = sum(len(task.pairs) for task in tasks)
        bar = stack.enter_context(tqdm(total=total, unit="map", desc="scoring", disable=None))
        results = []
        for task in tasks:
            score = PROTOCOLS[protocol]()
            faults: List[Tuple[str, str]] = []
            chunks = [task.pairs[i : i + CHUNK] for i in range(0, len(task.pairs), CHUNK)]
            for part, values, unreadable in run(_score_chunk, [(protocol, c) for c in chunks]):
                score.merge(part)
                faults += unreadable
                bar.update(len(values) + len(unreadable))
                if per_image:
                    for stem, own in values:
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


def _start_worker() -> None:
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process


def _score_chunk(
    job: Tuple[str, List[Pair]],
) -> Tuple[Score, List[Tuple[str, Dict[str, float]]], List[Tuple[str, str]]]:
    """The scores of some pairs, each one's own values, and the faults of those not readable."""
    protocol, pairs = job
    score = PROTOCOLS[protocol]()
    values, faults = [], []
    for pair in pairs:
        try:
            values.append((pair.stem, score.add(read_grey(pair.map), read_grey(pair.mask))))
        except InputError as error:
            faults.append((pair.stem, str(error)))
        except ValueError as error:
            faults.append((pair.stem, f"{pair.map}: {error}"))
    return score, values, faults
