"""Teachers: a frozen network that gives the maps which a student learns from."""

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict

import paddle
from paddle import Tensor

from backbones import BACKBONES
from SCFNet.backends import normalisation_of, open_session, photo_shape, run_session
from SCFNet.checkpoint import digest, find_weights, load_checkpoint, load_net
from SCFNet.errors import ArgumentError, InputError
from SCFNet.formats.unpickle import printable
from SCFNet.photos.transform import RELEASE, check_size, normalise
from SCFNet.training.recipe import DistillRecipe

TOLERANCE = 0.01  # by which probabilities may lie outside of [0, 1]


@dataclass(frozen=True)
class Teacher:
    """A frozen network.

    `run` maps images as the loader gives them, [N, 3, S, S] in 0..255, to probabilities
    [N, 1, S, S] without gradient; it raises InputError if they are not one map a photo, or not
    numbers. `size` is the side of the teacher's own input, 0 if that is S. `made_by` tells this
    teacher from all others.
    """

    run: Callable[[Tensor], Tensor]
    size: int
    made_by: Dict[str, object]


def open_teacher(recipe: DistillRecipe) -> Teacher:
    """Open the teacher in a `.pdparams` file of this repository's networks, or in an `.onnx` file.

    Raises InputError if it cannot be read, or is nothing that maps a photo to one map.
    """
    path = find_weights(recipe.teacher[0])
    if path.suffix == ".onnx":
        return onnx_teacher(path, recipe)
    return paddle_teacher(path, recipe)


def paddle_teacher(path: Path, recipe: DistillRecipe) -> Teacher:
    """Open a teacher of this repository, in eval mode.

    It gets photos of its own size. SCFNet, which is trained at many, gets the student's, unless its
    backbone is Swin.
    """
    net = load_net(path)
    any_size = net.model_type in BACKBONES and net.model_type != "ST"
    if recipe.teacher_size:
        check_size("teacher_size", recipe.teacher_size)
    size = recipe.teacher_size or (0 if any_size else net.input_size)

    @paddle.no_grad()
    def run(images: Tensor) -> Tensor:
        side = images.shape[-1]
        batch = normalise(resized(images, size or side), net.normalisation)
        preds = resized(net.predict(batch), side)
        if not paddle.isfinite(preds).all():
            raise InputError(f"{path}: gives values that are infinite or not a number")
        return preds

    return Teacher(run, size, {"weights": digest(load_checkpoint(path))})


def onnx_teacher(path: Path, recipe: DistillRecipe) -> Teacher:
    """Open a teacher of any design in ONNX Runtime, with its own size and normalisation.

    Its input is [N, 3, H, W], RGB; its output [N, 1, h, w], [N, h, w] or [N, h, w, 1].
    """
    session = open_session(path, threads=0)
    shape = photo_shape(path, session, recipe.teacher_input_name)
    outputs = [output.name for output in session.get_outputs()]
    output = recipe.teacher_output_name or outputs[0]
    if output not in outputs:
        raise InputError(
            f"{path}: has no output {output}, but {printable(', '.join(outputs), 200)}"
        )
    fixed = shape[2] if isinstance(shape[2], int) else 0
    if fixed and recipe.teacher_size not in (None, fixed):
        raise ArgumentError("teacher_size", f"{recipe.teacher_size}: {path} takes {fixed} px")
    size = recipe.teacher_size or fixed
    meta = session.get_modelmeta().custom_metadata_map
    own = normalisation_of(path, meta) if "weights_sha256" in meta else RELEASE
    normalisation = own._replace(
        mean=recipe.teacher_mean or own.mean, std=recipe.teacher_std or own.std
    )

    def run(images: Tensor) -> Tensor:
        batch = resized(images, size or images.shape[-1]).numpy()
        batch = normalise(batch, normalisation).astype("float32")
        maps = run_session(path, session, batch, output)
        preds = paddle.to_tensor(maps[:, None])
        if recipe.teacher_output == "logits":
            preds = paddle.nn.functional.sigmoid(preds)
        elif maps.min() < -TOLERANCE or maps.max() > 1 + TOLERANCE:
            warnings.warn(
                f"{path}: gives {maps.min():.3g} to {maps.max():.3g}, clipped to [0, 1]; if these "
                "are logits, let teacher_output be logits",
                stacklevel=2,
            )
        return resized(preds.clip(0, 1), images.shape[-1])

    made_by: Dict[str, object] = {
        "weights": hashlib.sha256(path.read_bytes()).hexdigest(),
        "output": [output, recipe.teacher_output],
        "mean": [float(value) for value in normalisation.mean],
        "std": [float(value) for value in normalisation.std],
    }
    return Teacher(run, size, made_by)


def resized(x: Tensor, side: int) -> Tensor:
    """Resize `x` [N, C, h, w] bilinearly (half-pixel) to `side` x `side`."""
    if x.shape[2:] == [side, side]:
        return x
    return paddle.nn.functional.interpolate(x, [side, side], mode="bilinear")
