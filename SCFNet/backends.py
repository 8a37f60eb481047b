"""The two ways to run a trained network: Paddle, and ONNX Runtime, which never imports Paddle."""

import importlib.util
import json
import re
import shutil
import threading
from pathlib import Path
from typing import Callable, Dict, NamedTuple, Optional

import numpy as np

from datasets.files import InputError
from datasets.transform import MEAN, STD, Normalisation
from SCFNet.checkpoint import check_weights, digest, load_checkpoint
from SCFNet.device import parse_device, set_device
from SCFNet.formats.onnx_files import check_saliency, open_session, photo_shape, run_session
from SCFNet.formats.unpickle import printable

ENGINES = ("auto", "paddle", "onnx")

INPUT, OUTPUT = "image", "saliency"  # the names in exported files


class Engine(NamedTuple):
    """A network that is ready to run. `run` maps normalised images, float32
    [N, 3, size, size], to saliency, float32 [N, size, size] in [0, 1]; threads may share it.
    `weights` is the file it was read from, `weights_sha256` the digest in an exported file.
    """

    name: str
    weights: Path
    model_type: str
    size: int
    normalisation: Normalisation
    run: Callable[[np.ndarray], np.ndarray]
    weights_sha256: str = ""


def open_engine(
    weights: Path, device: str, size: Optional[int], engine: str, threads: int = 1
) -> Engine:
    """The network of the checkpoint `weights` (.pdparams) or of an exported file (.onnx).

    Engine 'onnx' takes the exported file beside the checkpoint. 'auto' is Paddle on a GPU, and on
    a CPU 'onnx' where that file is there and has this `size`. An exported file of other weights
    than the checkpoint's is refused. Raises InputError where the wish cannot be fulfilled.
    """
    if engine not in ENGINES:
        raise ValueError(f"unknown engine {engine!r}: choose from {', '.join(ENGINES)}")
    parse_device(device)
    is_exported = weights.suffix == ".onnx"
    if weights.is_dir() or not (is_exported or engine == "onnx"):
        check_weights(weights)
    if is_exported and engine == "paddle":
        raise InputError(f"{weights}: --engine paddle takes a .pdparams file")
    wants_onnx = is_exported or engine == "onnx"
    if wants_onnx and device.startswith("gpu"):
        raise InputError(f"--device {device}: exported files run on the CPU")

    exported = weights.with_suffix(".onnx")
    if wants_onnx or (engine == "auto" and exported.is_file() and _onnx_is_better(device)):
        source = weights.with_suffix(".pdparams") if is_exported else weights
        command = f"python tools/export.py --weights {source}"
        if not exported.is_file():
            raise InputError(f"{exported}: does not exist; make it by: {command}")
        opened = open_onnx(exported, threads)
        if not is_exported and opened.weights_sha256 != digest(load_checkpoint(weights)):
            raise InputError(f"{exported}: is of other weights than {weights}; renew it: {command}")
        if size in (None, opened.size):
            return opened
        if wants_onnx:
            raise InputError(
                f"{exported}: is of size {opened.size}; renew it: {command} --size {size}"
            )
    return open_paddle(weights, device, size)


def open_paddle(weights: Path, device: str, size: Optional[int]) -> Engine:
    """The checkpoint `weights` in Paddle."""
    import paddle

    from SCFNet.checkpoint import load_net

    set_device(device)
    net = load_net(weights)
    lock = threading.Lock()

    def run(batch: np.ndarray) -> np.ndarray:
        with lock, paddle.no_grad():
            maps = net.predict(paddle.to_tensor(batch))
        return check_saliency(weights, maps[:, 0].numpy())

    size = size or net.input_size
    return Engine("paddle", weights, net.model_type, size, net.normalisation, run)


def open_onnx(file: Path, threads: int = 1) -> Engine:
    """A file of tools/export.py in ONNX Runtime.

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

    return Engine(
        "onnx",
        file,
        printable(meta["model_type"]),
        size,
        normalisation_of(file, meta),
        run,
        meta["weights_sha256"],
    )


def normalisation_of(file: Path, meta: Dict[str, str]) -> Normalisation:
    """What photos get before an exported file, by its metadata; the release's if it says nothing.

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
    """Whether Paddle would run on the CPU, and ONNX Runtime is installed.

    Paddle, which takes seconds to import, is asked only where there seems to be a GPU.
    """
    if device.startswith("gpu") or not importlib.util.find_spec("onnxruntime"):
        return False
    if device == "cpu" or not shutil.which("nvidia-smi"):
        return True

    return set_device(device) == "cpu"
