"""A folder of a teacher's maps: filled once, by any number of processes, then read as masks."""

import hashlib
import json
import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, Iterator, List, Sequence, Tuple

import numpy as np
import paddle
from tqdm import tqdm

from datasets.maps import find_whites
from datasets.matching import match_stems
from datasets.sod import Sample, list_folder, read_pair
from SCFNet.errors import InputError
from SCFNet.files import first_few, remove_leftovers, write_atomically
from SCFNet.parallel import in_parallel
from SCFNet.photos.transform import photo_batch
from SCFNet.photos.writing import write_png
from SCFNet.training.distributed import quiet, say, wait_for_processes
from SCFNet.training.teacher import Teacher

MANIFEST = "made-by.json"
CACHE_SIZE = 352  # side at which a teacher of any size fills a cache
CACHE_BATCH, CACHE_AHEAD, CACHE_THREADS = 8, 3, 3  # photos; batches in flight; readers, writers


def with_cached_labels(teacher: Teacher, samples: Sequence[Sample], folder: Path) -> List[Sample]:
    """Return `samples` with the teacher's maps from `folder`, after making those that are missing.

    Maps are 8-bit PNGs of the size of the teacher's input. Each process goes its own way through
    the photos and looks again before each: several may fill one folder, and one that is killed
    costs its last batches alone. Raises InputError for a folder that another teacher, another size
    or other photos have filled, and if the teacher's maps are of no use: none of them is written.
    """
    size = teacher.size or CACHE_SIZE
    check_manifest(folder, {**teacher.made_by, "size": size, "photos": set_digest(samples)})
    for place in {map_path(folder, sample).parent for sample in samples}:
        remove_leftovers(place)
    photos = dict.fromkeys(samples)  # each once, though a list may repeat them
    todo = [sample for sample in photos if not map_path(folder, sample).exists()]
    random.Random().shuffle(todo)
    chunks = [todo[i : i + CACHE_BATCH] for i in range(0, len(todo), CACHE_BATCH)]
    bar = tqdm(
        total=len(photos),
        initial=len(photos) - len(todo),
        unit="photo",
        disable=quiet(),
        desc="teacher's maps",
    )
    with ThreadPoolExecutor(CACHE_THREADS) as pool, bar:

        def taught() -> Iterator[Tuple[List[Sample], np.ndarray]]:
            """Run the teacher, while photos are read and maps are written beside it."""
            read = in_parallel(lambda chunk: decode(chunk, folder, size), chunks, CACHE_AHEAD, pool)
            for (missing, batch), chunk in zip(read, chunks):
                bar.update(len(chunk))
                if missing:
                    yield missing, teacher.run(paddle.to_tensor(batch)).numpy()[:, 0]

        for _ in in_parallel(lambda one: write_maps(*one, folder), taught(), CACHE_AHEAD, pool):
            pass
    wait_for_processes()
    return [sample._replace(mask=map_path(folder, sample), white=255.0) for sample in samples]


def decode(samples: Sequence[Sample], folder: Path, size: int) -> Tuple[List[Sample], np.ndarray]:
    """Return those of `samples` that have no map in `folder` yet, and their photos, [n, 3, size,
    size], as the student's loader reads them.
    """
    missing = [sample for sample in samples if not map_path(folder, sample).exists()]
    return missing, photo_batch([read_pair(sample)[0] for sample in missing], size)


def write_maps(samples: Sequence[Sample], maps: np.ndarray, folder: Path) -> None:
    """Write the maps [n, size, size] in [0, 1] of `samples`."""
    for saliency, sample in zip(maps, samples):
        write_png(map_path(folder, sample), np.rint(saliency * 255).astype("uint8"))


def map_path(folder: Path, sample: Sample) -> Path:
    """Return the path of `sample`'s map in a cache."""
    return folder / f"{sample.stem}.png"


def check_manifest(folder: Path, made_by: Dict[str, object]) -> None:
    """Write the manifest of a new cache, or check that of an old one against `made_by`.

    Raises InputError if they differ, or if a folder that holds files has none.
    """
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
    """Return the number of the photos, and the digest of their names and bytes."""
    ordered = sorted({*samples}, key=lambda sample: sample.stem)
    total = hashlib.sha256()
    digests = in_parallel(lambda one: hashlib.sha256(one.image.read_bytes()).digest(), ordered)
    for sample, digest in zip(ordered, digests):
        total.update(os.fsencode(sample.stem) + b"\n" + digest)
    return f"{len(ordered)} {total.hexdigest()}"


def labelled_from(samples: Sequence[Sample], folders: Sequence[Path]) -> List[Sample]:
    """Return `samples` with the maps of one or several teachers' `folders` as their masks.

    Raises InputError as `_maps_of` does.
    """
    first, *others = (_maps_of(samples, folder) for folder in folders)
    return [
        sample._replace(mask=path, white=white, others=tuple(more))
        for sample, (path, white), *more in zip(samples, first, *others)
    ]


def _maps_of(samples: Sequence[Sample], folder: Path) -> List[Tuple[Path, float]]:
    """Find the map of each of `samples` in `folder`, matched by `match_stems`, and its white.

    Raises InputError, which lists the first ten stems without a map, or if all are black.
    """
    maps = list_folder(folder)
    found, pattern = match_stems({sample.stem: sample for sample in samples}, maps)
    missing = [sample.stem for sample in samples if sample.stem not in found]
    if missing:
        raise InputError(
            f"{folder}: {len(missing)} of {len(samples)} photos have no map in it: "
            f"{first_few(missing, 10)}"
        )
    if pattern:
        say(f"{folder}: maps are matched as {pattern}")
    whites = find_whites(maps.values())
    if not any(whites.values()):
        raise InputError(f"{folder}: all of its maps are black")
    paths = [maps[found[sample.stem]] for sample in samples]
    return [(path, whites[path]) for path in paths]
