"""A folder of a teacher's maps: filled once, by any number of processes, then read as masks."""

import hashlib
import itertools
import json
import os
import random
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Deque, Dict, List, NamedTuple, Sequence

import numpy as np
import paddle
from tqdm import tqdm

from datasets.sod import Sample, list_folder, read_pair_uint8
from SCFNet.errors import InputError
from SCFNet.files import first_few, remove_leftovers, write_atomically
from SCFNet.photos.writing import write_png
from SCFNet.photos.transform import photo_batch
from SCFNet.training.distributed import largest_over_processes, quiet
from SCFNet.training.teacher import Teacher

MANIFEST = "made-by.json"
CACHE_SIZE = 352  # side at which a teacher of any size fills a cache
CACHE_BATCH, CACHE_AHEAD, CACHE_THREADS = 8, 3, 3  # photos; batches in flight; readers, writers


def with_cached_labels(teacher: Teacher, samples: Sequence[Sample], folder: Path) -> List[Sample]:
    """Give `samples` the teacher's maps from `folder`, after making those that are missing.

    Maps are 8-bit PNGs of the size of the teacher's input. Each process goes its own way through
    the photos and looks again before each: several may fill one folder, and one that is killed
    costs its last batches alone. Decoding and writing go on beside the network. Raises InputError
    for a folder that another teacher, size or set has filled, and if the teacher's maps are of no
    use: none of them is written.
    """
    size = teacher.size or CACHE_SIZE
    check_manifest(folder, {**teacher.made_by, "size": size, "photos": set_digest(samples)})
    for place in {map_path(folder, sample).parent for sample in samples}:
        remove_leftovers(place)
    todo = [sample for sample in samples if not map_path(folder, sample).exists()]
    random.Random().shuffle(todo)
    chunks = iter([todo[i : i + CACHE_BATCH] for i in range(0, len(todo), CACHE_BATCH)])
    reading: Deque[Future[Decoded]] = deque()
    writing: Deque[Future[None]] = deque()
    bar = tqdm(total=len(samples), initial=len(samples) - len(todo), unit="photo", disable=quiet(),
               desc="teacher's maps")  # fmt: skip
    with ThreadPoolExecutor(CACHE_THREADS) as pool, bar:
        try:
            for chunk in itertools.chain(chunks, [[]] * CACHE_AHEAD):
                if chunk:
                    reading.append(pool.submit(decode, chunk, folder, size))
                if reading and (len(reading) > CACHE_AHEAD or not chunk):
                    decoded = reading.popleft().result()
                    if decoded.samples:
                        maps = teacher.run(paddle.to_tensor(decoded.batch)).numpy()[:, 0]
                        writing.append(pool.submit(write_maps, maps, decoded.samples, folder))
                    bar.update(decoded.looked_at)
                while len(writing) > CACHE_AHEAD or (writing and writing[0].done()):
                    writing.popleft().result()
            for written in writing:
                written.result()
        finally:
            for read in reading:
                read.cancel()
            for written in writing:
                written.cancel()
    largest_over_processes(0)  # waits for the others
    return labelled_from(samples, folder)


class Decoded(NamedTuple):
    """Photos ready for a teacher: those whose maps are missing, of all that were looked at."""

    samples: List[Sample]
    batch: np.ndarray  # [n, 3, size, size]
    looked_at: int


def decode(samples: Sequence[Sample], folder: Path, size: int) -> Decoded:
    """Read the photos that have no map in `folder` yet, as the student's loader reads them."""
    missing = [sample for sample in samples if not map_path(folder, sample).exists()]
    photos = [read_pair_uint8(sample)[0] for sample in missing]
    return Decoded(missing, photo_batch(photos, size), len(samples))


def write_maps(maps: np.ndarray, samples: Sequence[Sample], folder: Path) -> None:
    """Write the maps [n, size, size] in [0, 1] of `samples`."""
    for saliency, sample in zip(maps, samples):
        write_png(map_path(folder, sample), np.rint(saliency * 255).astype("uint8"))


def map_path(folder: Path, sample: Sample) -> Path:
    """Name the file of `sample`'s map in a cache."""
    return folder / f"{sample.stem}.png"


def check_manifest(folder: Path, made_by: Dict[str, object]) -> None:
    """Write into a new cache what makes it, or check that an old one was made alike."""
    path = folder / MANIFEST
    # looked at before the manifest: if another process has maps by now, it wrote that first
    occupied = folder.is_dir() and any(not p.name.startswith(".") for p in folder.iterdir())
    if path.exists():
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read: {error}") from error
        if not isinstance(found, dict):
            found = {}
        other = [key for key in made_by if found.get(key) != made_by[key]]
        if other:
            raise InputError(
                f"{folder}: was filled with other {', '.join(other)}: name a new folder"
            )
    elif occupied:
        raise InputError(f"{folder}: holds files, but no {MANIFEST}: name a new folder")
    else:
        write_atomically(path, json.dumps(made_by, indent=1).encode())


def set_digest(samples: Sequence[Sample]) -> str:
    """Tell one set of photos from another, by number and names."""
    names = "\n".join(sorted(sample.stem for sample in samples))
    return f"{len(samples)} {hashlib.sha256(os.fsencode(names)).hexdigest()}"


def labelled_from(samples: Sequence[Sample], folder: Path) -> List[Sample]:
    """Give `samples` the maps of `folder`, of the same stems, as their masks.

    Raises InputError, which lists the first ten stems without a map.
    """
    maps = list_folder(folder)
    missing = [sample.stem for sample in samples if sample.stem not in maps]
    if missing:
        raise InputError(
            f"{folder}: {len(missing)} of {len(samples)} photos have no map in it: "
            f"{first_few(missing, 10)}"
        )
    return [sample._replace(mask=maps[sample.stem], is_map=True) for sample in samples]
