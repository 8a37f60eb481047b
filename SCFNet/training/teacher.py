"""Teachers: a frozen network that gives the maps which a student learns from."""

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import paddle
from paddle import Tensor

from backbones import BACKBONES
from datasets.files import InputError
from datasets.transform import Normalisation, check_size, renormalised
from SCFNet.backends import onnx_session
from SCFNet.checkpoint import digest, load_checkpoint, load_net
from SCFNet.loss import soft_target
from SCFNet.training.recipe import DistillRecipe

TOLERANCE = 0.01  # by which probabilities may lie outside of [0, 1]


@dataclass(frozen=True)
class Teacher:
    """A frozen network.

    `run` maps images as the student gets them, normalised [N, 3, S, S], to probabilities
    [N, 1, S, S] without gradient; it raises InputError if they are not one map a photo, or not
    numbers. `size` is the side of the teacher's own input, 0 if that is S. `made_by` tells this
    teacher from all others.
    """

    run: Callable[[Tensor], Tensor]
    size: int
    made_by: Dict[str, object]


def open_teacher(recipe: DistillRecipe) -> Teacher:
    """The teacher of a `.pdparams` file of this repository's networks, or of an `.onnx` file.

    Raises InputError if it cannot be read, or is nothing that maps a photo to one map.
    """
    path = Path(recipe.teacher)
    if path.suffix == ".onnx":
        return onnx_teacher(path, recipe)
    return paddle_teacher(path, recipe)


def paddle_teacher(path: Path, recipe: DistillRecipe) -> Teacher:
    """A teacher of this repository, in eval mode.

    It gets photos of its own size. SCFNet, which is trained at many, gets the student's, unless its
    backbone is Swin.
    """
    net = load_net(path)
    any_size = net.model_type in BACKBONES and net.model_type != "ST"
    size = recipe.teacher_size or (0 if any_size else net.input_size)
    if size:
        check_size("teacher_size", size)

    @paddle.no_grad()
    def run(images: Tensor) -> Tensor:
        side = images.shape[-1]
        batch = renormalised(resized(images, size or side), net.normalisation)
        preds = soft_target(net(batch)[0])
        check_maps(path, preds.numpy()[:, 0], len(images))
        return resized(preds, side)

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
    if fixed and recipe.teacher_size not in (None, fixed):
        raise InputError(f"{path}: its input is {fixed} px, --teacher-size {recipe.teacher_size}")
    size = recipe.teacher_size or fixed
    normalisation = Normalisation(recipe.teacher_mean, recipe.teacher_std)

    def run(images: Tensor) -> Tensor:
        batch = resized(images, size or images.shape[-1]).numpy()
        batch = renormalised(batch, normalisation).astype("float32")
        parts = np.split(batch, len(batch)) if shape[0] == 1 else [batch]
        try:
            maps = np.concatenate([session.run([output], {name: part})[0] for part in parts])
        except Exception as error:  # ONNX Runtime has an exception type per fault, and no base
            raise InputError(
                f"{path}: fails on {len(batch)} photos of {batch.shape[-1]} px: {first_line(error)}"
            ) from error
        if maps.ndim == 4 and 1 in (maps.shape[1], maps.shape[3]):
            maps = maps[:, 0] if maps.shape[1] == 1 else maps[..., 0]
        check_maps(path, maps, len(batch))
        preds = paddle.to_tensor(maps[:, None].astype("float32"))
        if recipe.teacher_output == "logits":
            preds = paddle.nn.functional.sigmoid(preds)
        elif maps.min() < -TOLERANCE or maps.max() > 1 + TOLERANCE:
            warnings.warn(
                f"{path}: gives {maps.min():.3g} to {maps.max():.3g}, clipped to [0, 1]; if these "
                "are logits, give --teacher-output logits",
                stacklevel=2,
            )
        return resized(preds.clip(0, 1), images.shape[-1])

    made_by: Dict[str, object] = {
        "weights": hashlib.sha256(path.read_bytes()).hexdigest(),
        "output": [output, recipe.teacher_output],
        "mean": [*recipe.teacher_mean],
        "std": [*recipe.teacher_std],
    }
    return Teacher(run, size, made_by)


def check_maps(path: Path, maps: np.ndarray, count: int) -> None:
    """Raise InputError unless a teacher gave a map [h, w] of numbers for each of `count` photos."""
    if maps.ndim != 3 or len(maps) != count:
        raise InputError(f"{path}: gives {list(maps.shape)} for {count} photos, not a map a photo")
    if not np.isfinite(maps).all():
        raise InputError(f"{path}: gives maps with values that are not numbers; it cannot teach")


def first_line(error: Exception) -> str:
    """What an exception says, in one short line."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def onnx_input(path: Path, session: Any, wanted: str) -> Tuple[str, List[Any]]:
    """Name and shape of the input for photos: the one called `wanted`, or the only one of four
    dimensions.

    Raises InputError if there is none, or it is not [N, 3, S, S].
    """
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
