"""Distillation's targets: a teacher beside the student, or the maps that one made before."""

import hashlib
import itertools
import json
import random
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Deque, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
from tqdm import tqdm

from datasets.files import InputError, write_atomically
from datasets.images import write_png
from datasets.sod import (
    MASK_FOLDERS,
    Sample,
    check_files,
    find_faults,
    list_folder,
    list_pairs,
    read_pair_uint8,
)
from datasets.transform import MEAN, STD, network_input
from SCFNet.checkpoint import digest, load_checkpoint, load_net
from SCFNet.device import paddle
from SCFNet.engine import fit, hold_back
from SCFNet.engines import onnx_session
from SCFNet.loss import soft_target
from SCFNet.processes import any_process, quiet, start_devices
from SCFNet.recipe import DistillRecipe

Tensor = paddle.Tensor

MANIFEST = "made-by.json"
SHOWN = 10  # missing maps and unreadable photos that are listed
CACHE_SIZE = 352  # side at which a teacher of any size fills a cache
CACHE_BATCH, CACHE_AHEAD, CACHE_THREADS = 8, 3, 3  # photos; batches in flight; readers, writers


@dataclass
class Teacher:
    """A frozen network. `run` maps images as the student gets them, normalised [N, 3, S, S], to
    probabilities [N, 1, S, S] without gradient. `size` is the side of the teacher's own input, 0
    where that is S. `made_by` tells this teacher from all others.
    """

    run: Callable[[Tensor], Tensor]
    size: int
    made_by: Dict[str, object]


def distill(recipe: DistillRecipe) -> int:
    """Train a student towards a teacher's maps, as tools/distill.py does; see `engine.fit`."""
    start_devices(recipe.device)
    samples = readable(list_pairs(recipe.data, labelled=False), recipe.skip_unreadable)
    if recipe.val:
        compared = list_pairs(recipe.val, "test", labelled=False)
    else:
        samples, compared = hold_back(samples, recipe.val_fraction)
    scored = {}
    if recipe.val and any(Path(recipe.val, name).is_dir() for name in MASK_FOLDERS):
        scored[""] = list_pairs(recipe.val, "test")
        check_files(scored[""])

    if recipe.dry_run:
        compared, recipe.cache_labels = [], ""
    if Path(recipe.teacher).is_dir():
        samples = labelled_from(samples, Path(recipe.teacher))
        check_files(samples)
        if compared and not recipe.val:
            scored["teacher-"] = labelled_from(compared, Path(recipe.teacher))
        return fit(recipe, samples, scored)

    teacher = open_teacher(recipe)
    if compared:
        scored["teacher-"] = filled(teacher, compared, Path(recipe.output, "teacher-maps"))
    if recipe.cache_labels:
        return fit(recipe, filled(teacher, samples, Path(recipe.cache_labels)), scored)
    return fit(recipe, samples, scored, lambda images, _: teacher.run(images))


def readable(samples: List[Sample], skip: bool) -> List[Sample]:
    """The samples whose photos can be read. Others are listed; without `skip` InputError."""
    faults = find_faults(samples)
    if not faults:
        return samples
    listed = "; ".join(fault for _, fault in faults[:SHOWN])
    more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    if not skip:
        raise InputError(
            f"{len(faults)} photos (--skip-unreadable leaves them out): {listed}{more}"
        )
    if not quiet():
        print(f"left out {len(faults)} unreadable photos:", *(f for _, f in faults), sep="\n  ")
    bad = {sample.stem for sample, _ in faults}
    kept = [sample for sample in samples if sample.stem not in bad]
    if not kept:
        raise InputError(f"none of the {len(samples)} photos can be read: {listed}{more}")
    return kept


def labelled_from(samples: Sequence[Sample], folder: Path) -> List[Sample]:
    """`samples` with the maps of `folder`, of the same stems, as their masks.

    Raises InputError, which lists the first ten stems without a map.
    """
    maps = list_folder(folder)
    missing = [sample.stem for sample in samples if sample.stem not in maps]
    if missing:
        more = f", and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise InputError(
            f"{folder}: {len(missing)} of {len(samples)} photos have no map in it: "
            f"{', '.join(missing[:SHOWN])}{more}"
        )
    return [sample._replace(mask=maps[sample.stem], any_size=True) for sample in samples]


def open_teacher(recipe: DistillRecipe) -> Teacher:
    """The teacher of a `.pdparams` file of this repository's networks, or of an `.onnx` file.

    Raises InputError where it cannot be read, or is nothing that maps a photo to one map.
    """
    path = Path(recipe.teacher)
    return (onnx_teacher if path.suffix == ".onnx" else paddle_teacher)(path, recipe)


def paddle_teacher(path: Path, recipe: DistillRecipe) -> Teacher:
    """A teacher of this repository, in eval mode. Swin's input has one size, others have any."""
    net = load_net(path)
    size = recipe.teacher_size or (net.input_size if net.model_type == "ST" else 0)

    @paddle.no_grad()
    def run(images: Tensor) -> Tensor:
        side = images.shape[-1]
        return resized(soft_target(net(resized(images, size or side))[0]), side)

    return Teacher(run, size, {"weights": digest(load_checkpoint(path))})


def onnx_teacher(path: Path, recipe: DistillRecipe) -> Teacher:
    """A teacher of any design, in ONNX Runtime, with its own size and normalisation.

    Its input is [N, 3, H, W], RGB; its output [N, 1, h, w], [N, h, w] or [N, h, w, 1].
    """
    session = onnx_session(path, threads=0)
    name, shape = onnx_input(path, session, recipe.teacher_input_name)
    outputs = [output.name for output in session.get_outputs()]
    output = recipe.teacher_output_name or outputs[0]
    if output not in outputs:
        raise InputError(f"{path}: has no output {output}, but {', '.join(outputs)}")
    fixed = shape[2] if isinstance(shape[2], int) else 0
    if fixed and recipe.teacher_size not in (0, fixed):
        raise InputError(f"{path}: its input is {fixed} px, --teacher-size {recipe.teacher_size}")
    size = recipe.teacher_size or fixed
    mean, std = (np.reshape(v, (3, 1, 1)) for v in (recipe.teacher_mean, recipe.teacher_std))
    gain, shift = STD[:, None, None] / std, (MEAN[:, None, None] - mean) / std

    def run(images: Tensor) -> Tensor:
        batch = resized(images, size or images.shape[-1]).numpy()
        batch = (batch * gain + shift).astype("float32")
        parts = np.split(batch, len(batch)) if shape[0] == 1 else [batch]
        maps = np.concatenate([session.run([output], {name: part})[0] for part in parts])
        if maps.ndim == 4 and 1 in (maps.shape[1], maps.shape[3]):
            maps = maps[:, 0] if maps.shape[1] == 1 else maps[..., 0]
        if maps.ndim != 3:
            raise InputError(f"{path}: output {output} is {list(maps.shape)}, not a map a photo")
        found = paddle.to_tensor(maps[:, None])
        if recipe.teacher_output == "logits":
            found = paddle.nn.functional.sigmoid(found)
        return resized(found.clip(0, 1), images.shape[-1])

    made_by = {
        "weights": hashlib.sha256(path.read_bytes()).hexdigest(),
        "output": [output, recipe.teacher_output],
        "mean": [*recipe.teacher_mean],
        "std": [*recipe.teacher_std],
    }
    return Teacher(run, size, made_by)


def onnx_input(path: Path, session: Any, wanted: str) -> Tuple[str, List[Any]]:
    """Name and shape of the input for photos: the one called `wanted`, or the only one of four
    dimensions. Raises InputError where there is none, or it is not [N, 3, S, S]."""
    inputs = {one.name: list(one.shape) for one in session.get_inputs()}
    photos = [name for name, shape in inputs.items() if len(shape) == 4]
    if wanted and wanted not in photos:
        raise InputError(f"{path}: has no input {wanted} of four dimensions; it has {inputs}")
    if not wanted and len(photos) != 1:
        way_out = "choose one by --teacher-input-name" if photos else "it cannot be a teacher"
        raise InputError(f"{path}: {len(photos)} inputs of four dimensions in {inputs}; {way_out}")
    name = wanted or photos[0]
    shape = inputs[name]
    sides = {side for side in shape[2:] if isinstance(side, int)}
    if (shape[1] != 3 and isinstance(shape[1], int)) or len(sides) > 1:
        raise InputError(f"{path}: input {name} is {shape}, not [N, 3, S, S]")
    return name, shape


def resized(x: Tensor, side: int) -> Tensor:
    """`x` [N, C, h, w] bilinearly (half-pixel) at `side` x `side`."""
    if x.shape[2:] == [side, side]:
        return x
    return paddle.nn.functional.interpolate(x, [side, side], mode="bilinear")


def filled(teacher: Teacher, samples: Sequence[Sample], folder: Path) -> List[Sample]:
    """`samples` with the teacher's maps from `folder`, after those that are missing were made.

    Maps are 8-bit PNGs of the size of the teacher's input. Each process goes its own way through
    the photos and looks again before each: several may fill one folder, and one that is killed
    costs its last batches alone. Decoding and writing go on beside the network. Raises InputError
    for a folder that another teacher, size or set has filled.
    """
    size = teacher.size or CACHE_SIZE
    claim(folder, {**teacher.made_by, "size": size, "photos": set_digest(samples)})
    todo = [sample for sample in samples if not map_path(folder, sample).exists()]
    random.Random().shuffle(todo)
    chunks = iter([todo[i : i + CACHE_BATCH] for i in range(0, len(todo), CACHE_BATCH)])
    reading: Deque[Future[Decoded]] = deque()
    writing: Deque[Future[None]] = deque()
    bar = tqdm(total=len(samples), initial=len(samples) - len(todo), unit="photo", disable=quiet(),
               desc="teacher's maps")  # fmt: skip
    with ThreadPoolExecutor(CACHE_THREADS) as pool, bar:
        try:
            for chunk in itertools.chain(chunks, [None] * CACHE_AHEAD):
                if chunk:
                    reading.append(pool.submit(decode, chunk, folder, size))
                if reading and (len(reading) > CACHE_AHEAD or not chunk):
                    decoded = reading.popleft().result()
                    if decoded.samples:
                        maps = teacher.run(paddle.to_tensor(decoded.batch)).numpy()[:, 0]
                        writing.append(pool.submit(write_maps, maps, decoded.samples, folder))
                    bar.update(decoded.count)
                while len(writing) > CACHE_AHEAD or (writing and writing[0].done()):
                    writing.popleft().result()
            for future in writing:
                future.result()
        finally:
            for future in (*reading, *writing):
                future.cancel()
    any_process(False)  # waits for the others
    return labelled_from(samples, folder)


class Decoded(NamedTuple):
    """Photos ready for a teacher: those whose maps are missing, of `count` that were looked at."""

    samples: List[Sample]
    batch: np.ndarray  # [n, 3, size, size]
    count: int


def decode(samples: Sequence[Sample], folder: Path, size: int) -> Decoded:
    """Read the photos that have no map in `folder` yet, as the student's loader reads them."""
    missing = [sample for sample in samples if not map_path(folder, sample).exists()]
    photos = [read_pair_uint8(sample)[0] for sample in missing]
    return Decoded(missing, network_input(photos, size), len(samples))


def write_maps(maps: np.ndarray, samples: Sequence[Sample], folder: Path) -> None:
    """Write the maps [n, size, size] in [0, 1] of `samples`."""
    for saliency, sample in zip(maps, samples):
        grey = np.rint(saliency * 255).astype("uint8")
        if grey.max() == 1:
            grey[:] = 0  # would be read as a mask that is coded 0/1
        write_png(map_path(folder, sample), grey)


def map_path(folder: Path, sample: Sample) -> Path:
    """Where the map of `sample` is in a cache."""
    return folder / f"{sample.stem}.png"


def claim(folder: Path, made_by: Dict[str, object]) -> None:
    """Write into a new cache what makes it, or check that an old one was made alike."""
    path = folder / MANIFEST
    # looked at before the manifest: where another process has maps by now, it wrote that first
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
    """Tells one set of photos from another, by number and names."""
    names = "\n".join(sorted(sample.stem for sample in samples))
    return f"{len(samples)} {hashlib.sha256(names.encode()).hexdigest()}"
