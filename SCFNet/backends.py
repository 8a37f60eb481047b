"""The two ways to run a trained network: Paddle, and ONNX Runtime, which never imports Paddle."""

import importlib.util
import json
import re
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Dict, NamedTuple, Optional

import numpy as np

from datasets.files import InputError, PathLike
from datasets.transform import Normalisation
from SCFNet.checkpoint import check_weights, digest, load_checkpoint

if TYPE_CHECKING:
    import onnxruntime

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
# The shipped checkpoints by the names that stand for them, and the one if none is named.
SHIPPED = {
    "small": WEIGHTS / "KD-SCFNet-DUTS.pdparams",
    "accurate": WEIGHTS / "SCFNet-EL-DUTS.pdparams",
}
DEFAULT_WEIGHTS = WEIGHTS / "SCFNet-DUTS.pdparams"

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


def find_weights(name: PathLike) -> Path:
    """The file that a name of `SHIPPED` stands for ('./small' is a file of that name); else the
    file `name` itself.
    """
    return SHIPPED.get(str(name), Path(name))


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
    if not re.fullmatch(r"auto|cpu|gpu(:\d+)?", device):
        raise InputError(f"--device {device}: must be auto, cpu, gpu or gpu:N")
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
    from SCFNet.device import set_device

    set_device(device)
    net = load_net(weights)
    lock = threading.Lock()

    def run(batch: np.ndarray) -> np.ndarray:
        with lock, paddle.no_grad():
            return net.predict(paddle.to_tensor(batch))[:, 0].numpy()

    size = size or net.input_size
    return Engine("paddle", weights, net.model_type, size, net.normalisation, run)


def open_onnx(file: Path, threads: int = 1) -> Engine:
    """A file of tools/export.py in ONNX Runtime.

    Each call runs in `threads` threads; 0 are as many as there are cores, for one photo alone.
    Photos that run beside each other use the cores better with one thread each.
    """
    session = onnx_session(file, threads)
    try:
        meta = session.get_modelmeta().custom_metadata_map
        model_type, size, sha256 = (meta[k] for k in ("model_type", "size", "weights_sha256"))
        normalisation = normalisation_of(meta)
    except KeyError as error:
        raise InputError(f"{file}: was not made by tools/export.py ({error} missing)") from error
    one_by_one = session.get_inputs()[0].shape[0] == 1

    def run(batch: np.ndarray) -> np.ndarray:
        parts = np.split(batch, len(batch)) if one_by_one else [batch]
        return np.concatenate([session.run([OUTPUT], {INPUT: part})[0][:, 0] for part in parts])

    return Engine("onnx", file, model_type, int(size), normalisation, run, sha256)


def normalisation_of(meta: Dict[str, str]) -> Normalisation:
    """What photos get before an exported file, by its metadata. Raises KeyError if it says
    nothing."""
    mean, std = (tuple(json.loads(meta[key])) for key in ("mean", "std"))
    return Normalisation(mean, std, meta.get("by_max") == "true")


def onnx_session(file: Path, threads: int) -> "onnxruntime.InferenceSession":
    """Any ONNX file in ONNX Runtime on the CPU; 0 threads are as many as there are cores."""
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(f"{file}: {error}; pip install onnxruntime") from error

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            file.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # ONNX Runtime has an exception type per fault, and no base
        raise InputError(f"{file}: not an ONNX file, or damaged") from error


def _onnx_is_better(device: str) -> bool:
    """Whether Paddle would run on the CPU, and ONNX Runtime is installed.

    Paddle, which takes seconds to import, is asked only where there seems to be a GPU.
    """
    if device.startswith("gpu") or not importlib.util.find_spec("onnxruntime"):
        return False
    if device == "cpu" or not shutil.which("nvidia-smi"):
        return True
    from SCFNet.device import set_device

    return set_device(device) == "cpu"
