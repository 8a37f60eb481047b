"""The two ways to run a trained network: Paddle, and ONNX Runtime, which never imports Paddle."""

import importlib.util
import json
import re
import shutil
import threading
from pathlib import Path
from typing import Callable, Dict, NamedTuple, Optional

import numpy as np

from SCFNet import IS_INSTALLED, NEEDS_REPOSITORY
from SCFNet.checkpoint import check_weights, digest, load_checkpoint, sharpened_by
from SCFNet.device import parse_device, set_device
from SCFNet.errors import ArgumentError, InputError
from SCFNet.formats.onnx_files import check_saliency, open_session, photo_shape, run_session
from SCFNet.formats.unpickle import printable
from SCFNet.photos.transform import MEAN, STD, Normalisation

ENGINES = ("auto", "paddle", "onnx")

INPUT, OUTPUT = "image", "saliency"  # the names in exported files


class Backend(NamedTuple):
    """A network that is ready to run.

    `run` maps normalised images, float32 [N, 3, size, size], to saliency, float32 [N, size, size]
    in [0, 1]; threads may share it. `name` is 'paddle' or 'onnx', `weights` the file that was read,
    `weights_sha256` the digest in an exported file, `sharpened` what the logits were multiplied by
    after training.
    """

    name: str
    weights: Path
    model_type: str
    size: int
    normalisation: Normalisation
    run: Callable[[np.ndarray], np.ndarray]
    weights_sha256: str = ""
    sharpened: float = 1


def open_backend(
    weights: Path, device: str, size: Optional[int], engine: str, threads: int = 1
) -> Backend:
    """Open the network of a checkpoint (.pdparams) or of an exported file (.onnx).

    Args:
        weights: the checkpoint or the exported file.
        device: 'auto', 'cpu', 'gpu' or 'gpu:N'.
        size: height and width of the input, in pixels; None is the file's own.
        engine: one of ENGINES. 'onnx' runs the exported file beside the checkpoint; 'auto' does so
            on a CPU if that file is there and has this `size`, and else runs Paddle.
        threads: of ONNX Runtime; see `open_onnx`.

    Raises ArgumentError if engine, device and file exclude each other, and InputError for a file
    that is missing, damaged or of another size, and for an exported file whose weights are not
    those of the checkpoint beside it.
    """
    if engine not in ENGINES:
        raise ValueError(f"unknown engine {engine!r}: choose from {', '.join(ENGINES)}")
    parse_device(device)
    is_exported = weights.suffix == ".onnx"
    if is_exported and engine == "paddle":
        raise ArgumentError("engine", f"paddle takes a .pdparams file, not {weights}")
    wants_onnx = is_exported or engine == "onnx"
    if weights.is_dir() or not wants_onnx:
        check_weights(weights)
    if not wants_onnx:
        may_run_onnx = engine == "auto" and weights.with_suffix(".onnx").is_file()
        if may_run_onnx and _onnx_is_better(device):
            exported = _open_exported(weights, threads)
            if size in (None, exported.size):
                return exported
        return open_paddle(weights, device, size)
    if device.startswith("gpu"):
        raise ArgumentError("device", f"{device}: exported files run on the CPU")
    exported = _open_exported(weights, threads)
    if size not in (None, exported.size):
        renewal = _export_command(weights, size)
        raise InputError(f"{exported.weights}: is of size {exported.size}; renew it: {renewal}")
    return exported


def _open_exported(weights: Path, threads: int) -> Backend:
    """Open `weights` if it is an exported file, else the exported file beside that checkpoint."""
    file, command = weights.with_suffix(".onnx"), _export_command(weights)
    if not file.is_file():
        raise InputError(f"{file}: does not exist; make it by: {command}")
    exported = open_onnx(file, threads)
    if weights != file and exported.weights_sha256 != digest(load_checkpoint(weights)):
        raise InputError(f"{file}: is of other weights than {weights}; renew it: {command}")
    return exported


def _export_command(weights: Path, size: Optional[int] = None) -> str:
    """Word the command that exports `weights`, or the checkpoint beside that exported file."""
    source = weights.with_suffix(".pdparams") if weights.suffix == ".onnx" else weights
    command = f"python tools/export.py --weights {source}"
    return f"{command} --size {size}" if size else command


def open_paddle(weights: Path, device: str, size: Optional[int]) -> Backend:
    """Open the checkpoint `weights` in Paddle."""
    if IS_INSTALLED:
        raise InputError(f"{weights}: {NEEDS_REPOSITORY}")
    import paddle

    from SCFNet.checkpoint import load_net

    set_device(device)
    net = load_net(weights)
    lock = threading.Lock()

    def run(batch: np.ndarray) -> np.ndarray:
        with lock, paddle.no_grad():
            maps = net.predict(paddle.to_tensor(batch))
        return check_saliency(weights, maps[:, 0].numpy())

    return Backend(
        name="paddle",
        weights=weights,
        model_type=net.model_type,
        size=size or net.input_size,
        normalisation=net.normalisation,
        run=run,
        sharpened=sharpened_by(weights),
    )


def open_onnx(file: Path, threads: int = 1) -> Backend:
    """Open a file of tools/export.py in ONNX Runtime.

    Each call runs in `threads` threads; 0 are as many as there are cores, for one photo alone.
    Photos that run beside each other use the cores better with one thread each. Raises InputError
    for any other file.
    """
    session = open_session(file, threads)
    meta = session.get_modelmeta().custom_metadata_map
    missing = {"model_type", "size", "weights_sha256"} - set(meta)
    if missing or OUTPUT not in [output.name for output in session.get_outputs()]:
        lacking = ", ".join(sorted(missing)) or f"the output {OUTPUT}"
        raise InputError(f"{file}: was not made by tools/export.py ({lacking} missing)")
    if not re.fullmatch(r"[1-9][0-9]{1,3}", meta["size"]):
        raise InputError(f"{file}: says size {printable(meta['size'])}, no number of pixels")
    size = int(meta["size"])
    sides = photo_shape(file, session, INPUT)[2:]
    if any(isinstance(side, int) and side != size for side in sides):
        raise InputError(f"{file}: says size {size}, but takes photos of {printable(sides)}")

    def run(batch: np.ndarray) -> np.ndarray:
        maps = run_session(file, session, batch, OUTPUT)
        if maps.shape[1:] != (size, size):
            raise InputError(f"{file}: says size {size}, but gives maps of {maps.shape[1:]}")
        return check_saliency(file, maps)

    return Backend(
        name="onnx",
        weights=file,
        model_type=printable(meta["model_type"]),
        size=size,
        normalisation=normalisation_of(file, meta),
        run=run,
        weights_sha256=meta["weights_sha256"],
        sharpened=_sharpened_by(meta),
    )


def _sharpened_by(meta: Dict[str, str]) -> float:
    """Read what the logits of an exported file were multiplied by; 1 if it says no such number."""
    found = meta.get("sharpened", "")
    return float(found) if re.fullmatch(r"0*[1-9]\d{0,3}(\.\d+)?|0?\.\d*[1-9]\d*", found) else 1


def normalisation_of(file: Path, meta: Dict[str, str]) -> Normalisation:
    """Read the normalisation of an exported file from its metadata; the release's if it has none.

    Raises InputError unless mean and std are three numbers each, and std is positive.
    """
    try:
        mean, std = (
            [float(number) for number in json.loads(meta[key])] if key in meta else default.tolist()
            for key, default in (("mean", MEAN), ("std", STD))
        )
        fits = len(mean) == len(std) == 3 and np.isfinite(mean + std).all() and min(std) > 0
    except (ValueError, TypeError, RecursionError, OverflowError):
        fits = False
    if not fits:
        raise InputError(f"{file}: says a mean and std that are not three numbers each")
    return Normalisation(mean, std, meta.get("by_max") == "true")


def _onnx_is_better(device: str) -> bool:
    """Tell whether ONNX Runtime is installed, and no Paddle that would run on a GPU.

    Paddle, which takes seconds to import, is asked only if there seems to be a GPU.
    """
    if device.startswith("gpu") or not importlib.util.find_spec("onnxruntime"):
        return False
    if device == "cpu" or not shutil.which("nvidia-smi"):
        return True
    try:
        return set_device(device) == "cpu"
    except ImportError:  # no Paddle, or one whose libraries are missing
        return True
