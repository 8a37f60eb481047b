"""The two ways to run a trained network: Paddle, and ONNX Runtime, which never imports Paddle."""

import contextlib
import hashlib
import io
import json
import re
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, NamedTuple, Optional

import numpy as np

from SCFNet import IS_INSTALLED, NEEDS_REPOSITORY
from SCFNet.checkpoint import (
    build_net,
    check_weights,
    digest,
    load_checkpoint,
    load_network,
    sharpened_by,
)
from SCFNet.device import parse_device, set_device
from SCFNet.errors import ArgumentError, InputError, is_memory_short
from SCFNet.files import check_is_file, without_suffix
from SCFNet.formats.unpickle import printable
from SCFNet.packages import check_beside_numpy, is_installed, why_not_imported
from SCFNet.photos.transform import MEAN, STD, Normalisation

if TYPE_CHECKING:
    import onnxruntime

ENGINES = ("auto", "paddle", "onnx")

# of checkpoints and of what they are exported to; "net-0.80" has none
SUFFIXES = (".onnx", ".pdparams", ".pdmodel", ".pdiparams", ".json", ".meta", ".pth", ".pt")

INPUT, OUTPUT = "image", "saliency"  # the names in exported files
GPU = "CUDAExecutionProvider"  # of onnxruntime-gpu
NO_GPU = "onnxruntime-gpu finds no GPU, or not its CUDA and cuDNN; use cpu"
RANGE = (-0.001, 1.001)  # of saliency, with what a resize may add
REASON = 120  # letters of ONNX Runtime's message


class Backend(NamedTuple):
    """A network that is ready to run.

    `run` maps normalised images, float32 [N, 3, size, size], to saliency, float32 [N, size, size]
    in [0, 1]; threads may share it. `name` is 'paddle' or 'onnx', `weights` the file that was read,
    `weights_sha256` the digest of its weights, which a checkpoint and its exported file share,
    `file_sha256` in an exported file that of the checkpoint's bytes; older files have '' for it.
    `sharpened` is what the logits were multiplied by after training.
    """

    name: str
    weights: Path
    model_type: str
    size: int
    normalisation: Normalisation
    run: Callable[[np.ndarray], np.ndarray]
    weights_sha256: str = ""
    file_sha256: str = ""
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
            on a CPU, and where Paddle is not installed, if that file is there and has this `size`,
            and else runs Paddle.
        threads: of ONNX Runtime; see `open_onnx`.

    Raises ArgumentError if engine, device and file exclude each other, and InputError for a file
    that is missing, damaged or of another size, and for an exported file whose weights are not
    those of the checkpoint beside it.
    """
    file = _choose_file(weights, device, engine)
    if file.suffix != ".onnx":
        _check_paddle(weights, device, engine)
        return open_paddle(file, device, size)
    exported = open_onnx(file, threads, device)
    renewed = weights.with_suffix(".pdparams") if file == weights else weights
    export = f"python tools/export.py --weights {renewed}"
    if file != weights and not _is_of(exported, weights):
        raise InputError(f"{file}: is of other weights than {weights}; renew it: {export}")
    if size in (None, exported.size):
        return exported
    if file != weights and engine == "auto":
        _check_paddle(weights, device, engine, size)
        return open_paddle(weights, device, size)
    raise InputError(f"{file}: is of size {exported.size}; renew it: {export} --size {size}")


def _check_paddle(weights: Path, device: str, engine: str, size: Optional[int] = None) -> None:
    """Raise InputError, with what asks for Paddle and both ways out, if it is not installed."""
    if IS_INSTALLED or is_installed("paddle"):  # the first `open_paddle` says
        return
    if engine == "paddle":
        reason, way_out = "--engine paddle", "leave --engine out"
    elif device.startswith("gpu"):
        reason, way_out = f"--device {device}", "take --device cpu"
    elif size:
        reason, way_out = f"--size {size}", "leave --size out"
    else:
        reason = f"{weights}, which has no .onnx file beside it,"
        way_out = "make one where Paddle is, by tools/export.py"
    raise InputError(
        f"paddle is not installed, and {reason} needs it: "
        f"pip install -r requirements.txt, or {way_out}"
    )


def _choose_file(weights: Path, device: str, engine: str) -> Path:
    """Return which file to run: `weights`, or the exported file beside that checkpoint."""
    if engine not in ENGINES:
        raise ValueError(f"unknown engine {engine!r}: choose from {', '.join(ENGINES)}")
    parse_device(device)
    if weights.suffix == ".onnx":
        if engine == "paddle":
            raise ArgumentError("engine", f"paddle takes a .pdparams file, not {weights}")
        return weights
    check_weights(weights)
    exported = Path(f"{without_suffix(weights, SUFFIXES)}.onnx")
    if engine == "onnx" and not exported.is_file():
        export = f"python tools/export.py --weights {weights}"
        raise InputError(f"{exported}: does not exist; make it by: {export}")
    if engine == "onnx" or (engine == "auto" and exported.is_file() and _onnx_is_better(device)):
        return exported
    return weights


def _is_of(exported: Backend, weights: Path) -> bool:
    """Return whether an exported file has the weights of a checkpoint. The digest of the
    checkpoint's bytes tells it fast; that of its arrays, if the file was written anew.
    """
    if exported.file_sha256 == hashlib.sha256(weights.read_bytes()).hexdigest():
        return True
    return exported.weights_sha256 == digest(load_checkpoint(weights))


def _onnx_is_better(device: str) -> bool:
    """Return whether ONNX Runtime is installed, and no Paddle that would run on a GPU.

    Paddle, which takes seconds to import, is asked only if there seems to be a GPU.
    """
    if not is_installed("onnxruntime"):
        return False
    if not is_installed("paddle") or device == "cpu":
        return True
    if device == "auto" and not shutil.which("nvidia-smi"):
        return True
    try:
        import paddle  # noqa: F401

        return device == "auto" and set_device(device) == "cpu"
    except KeyboardInterrupt:
        raise
    except BaseException:  # a package that is broken may raise anything, SystemExit too
        return True


def open_paddle(weights: Path, device: str, size: Optional[int]) -> Backend:
    """Open the checkpoint `weights` in Paddle."""
    if IS_INSTALLED:
        raise InputError(f"{weights}: {NEEDS_REPOSITORY}")
    try:
        import paddle
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # as above
        raise InputError(f"{weights}: {why_not_imported(error) or error}") from error

    set_device(device)
    name, state = load_network(weights)
    net = build_net(name, state, str(weights))
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
        weights_sha256=digest(state),
        sharpened=sharpened_by(weights),
    )


def open_onnx(file: Path, threads: int = 1, device: str = "auto") -> Backend:
    """Open a file of tools/export.py in ONNX Runtime, on the CPU unless `device` is a GPU.

    Each call runs in `threads` threads; 0 are as many as there are cores, for one photo alone.
    Photos that run beside each other use the cores better with one thread each. Raises InputError
    for any other file.
    """
    session = open_session(file, threads, device)
    meta = session.get_modelmeta().custom_metadata_map
    if "variant" in meta:
        raise InputError(f"{file}: takes {meta['variant']}; it is for other programs than this one")
    missing = {"model_type", "size", "weights_sha256"} - set(meta)
    if missing or OUTPUT not in [output.name for output in session.get_outputs()]:
        lacking = ", ".join(sorted(missing)) or f"the output {OUTPUT}"
        raise InputError(f"{file}: was not made by tools/export.py ({lacking} missing)")
    sides = photo_shape(file, session, INPUT)[2:]
    if {str(side) for side in sides if isinstance(side, int)} - {meta["size"]}:
        fault = f"says size {printable(meta['size'])}, but takes photos of {printable(sides)}"
        raise InputError(f"{file}: {fault}")
    try:
        size = int(meta["size"])
        sharpened = float(meta.get("sharpened", 1))
    except ValueError as error:
        raise InputError(f"{file}: damaged, {printable(str(error))}") from error

    def run(batch: np.ndarray) -> np.ndarray:
        return check_saliency(file, run_session(file, session, batch, OUTPUT))

    return Backend(
        name="onnx",
        weights=file,
        model_type=printable(meta["model_type"]),
        size=size,
        normalisation=normalisation_of(file, meta),
        run=run,
        weights_sha256=meta["weights_sha256"],
        file_sha256=meta.get("file_sha256", ""),
        sharpened=sharpened,
    )


def normalisation_of(file: Path, meta: Dict[str, str]) -> Normalisation:
    """Read the normalisation of an exported file from its metadata; the release's if it has none.

    Raises InputError unless mean and std are three numbers each.
    """
    try:
        mean, std = (
            np.array(json.loads(meta[key]), "float32").reshape(3) if key in meta else default
            for key, default in (("mean", MEAN), ("std", STD))
        )
    except (ValueError, TypeError) as error:
        raise InputError(f"{file}: says a mean and std that are not three numbers each") from error
    return Normalisation(mean, std, meta.get("by_max") == "true")


def check_saliency(file: Path, maps: np.ndarray) -> np.ndarray:
    """Return `maps`. Raises InputError unless they lie in [0, 1]."""
    low, high = maps.min(), maps.max()
    if not (low >= RANGE[0] and high <= RANGE[1]):
        raise InputError(f"{file}: gives values from {low:.4g} to {high:.4g}, not from 0 to 1")
    return maps


def open_session(file: Path, threads: int, device: str = "auto") -> "onnxruntime.InferenceSession":
    """Open any ONNX file in ONNX Runtime; 0 threads are as many as there are cores.

    It runs on the CPU, unless `device` is 'gpu' or 'gpu:N'. Raises InputError if the file cannot be
    read, or is nothing that ONNX Runtime can run, and ArgumentError for a GPU that it cannot use.
    """
    try:
        check_beside_numpy("onnxruntime")
        import onnxruntime
    except Exception as error:  # a package that is broken may raise anything
        raise InputError(f"{file}: {why_not_imported(error) or error}") from error

    check_is_file(file)
    kind, number = parse_device(device)
    providers: List[Any] = ["CPUExecutionProvider"]
    if kind == "gpu":
        if GPU not in onnxruntime.get_available_providers():
            way_out = "pip install onnxruntime-gpu, in place of onnxruntime, or --device cpu"
            raise ArgumentError("device", f"{device}: {file} runs on a GPU by {way_out}")
        if hasattr(onnxruntime, "preload_dlls"):  # CUDA as pip installs it
            with contextlib.redirect_stdout(io.StringIO()):  # what it does not find
                onnxruntime.preload_dlls()
        providers.insert(0, (GPU, {"device_id": number or 0}))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            str(file),
            options,
            providers=providers,
            enable_fallback=0,  # which would print
        )
        for one in (*session.get_inputs(), *session.get_outputs()):
            str(one)  # decodes its name, here where text that is not UTF-8 is caught
        str(session.get_modelmeta().custom_metadata_map)
    except Exception as error:  # ONNX Runtime has an exception type per fault, and no base
        if kind == "gpu" and re.search("cuda|cudnn|cublas", str(error), re.IGNORECASE):
            raise ArgumentError("device", f"{device}: {NO_GPU}") from error
        raise _fault(file, "not an ONNX file, or damaged", error) from error
    if kind == "gpu" and GPU not in session.get_providers():  # it would run on the CPU
        raise ArgumentError("device", f"{device}: {NO_GPU}")
    return session


def photo_shape(file: Path, session: "onnxruntime.InferenceSession", wanted: str = "") -> List[Any]:
    """Find the shape of the input for photos: the one called `wanted`, or the only one of four
    dimensions. Raises InputError if there is none, or it is not float32 [N, 3, S, S], any N or 1.
    """
    inputs = {one.name: one for one in session.get_inputs()}
    photos = [name for name, one in inputs.items() if len(one.shape) == 4]
    shown = printable({name: list(one.shape) for name, one in inputs.items()}, 200)
    if wanted and wanted not in photos:
        raise InputError(f"{file}: has no input {wanted} of four dimensions; it has {shown}")
    if not wanted and len(photos) != 1:
        way_out = "choose one by --teacher-input-name" if photos else "it cannot be a teacher"
        raise InputError(f"{file}: {len(photos)} inputs of four dimensions in {shown}; {way_out}")
    name = wanted or photos[0]
    if len(inputs) > 1:
        raise InputError(f"{file}: wants more than photos, its inputs are {shown}")
    shape = list(inputs[name].shape)
    batch, channels, *sides = (side if isinstance(side, int) else None for side in shape)
    if channels not in (3, None) or len({side for side in sides if side is not None}) > 1:
        raise InputError(f"{file}: input {name} is {printable(shape)}, not [N, 3, S, S]")
    if batch not in (1, None):
        raise InputError(f"{file}: input {name} is {printable(shape)}, a fixed batch of {batch}")
    if inputs[name].type != "tensor(float)":
        raise InputError(f"{file}: input {name} is a {inputs[name].type}, not float32")
    return shape


def run_session(
    file: Path, session: "onnxruntime.InferenceSession", batch: np.ndarray, output: str
) -> np.ndarray:
    """Map photos [N, 3, S, S] to [N, h, w]: the `output`, which has one channel or none.

    A batch is split if the file takes one photo, or fails on more. Raises InputError if it fails on
    one too, or gives anything but a map of finite numbers for each.
    """
    name, takes_one = session.get_inputs()[0].name, session.get_inputs()[0].shape[0] == 1
    if takes_one and len(batch) > 1:
        return np.concatenate([run_session(file, session, one[None], output) for one in batch])
    try:
        maps = session.run([output], {name: batch})[0]
    except Exception as error:  # an exception type per fault, as above
        if len(batch) > 1:
            return np.concatenate([run_session(file, session, one[None], output) for one in batch])
        if is_memory_short(error):
            raise MemoryError(f"{file}: not enough memory to run this network") from error
        raise _fault(file, "ONNX Runtime cannot run it", error) from error
    shape = list(np.shape(maps))
    if len(shape) == 4 and 1 in (shape[1], shape[3]):
        maps = maps[:, 0] if shape[1] == 1 else maps[..., 0]
    if np.ndim(maps) != 3 or len(maps) != len(batch) or maps.dtype.kind != "f":
        raise InputError(
            f"{file}: output {printable(output)} is {shape} for {len(batch)} photos, not a map each"
        )
    if not np.isfinite(maps).all():
        raise InputError(f"{file}: gives values that are infinite or not a number")
    return maps.astype("float32", copy=False)


def _fault(file: Path, fault: str, error: Exception) -> InputError:
    """Return what to raise for an exception of ONNX Runtime, whose long messages end with why."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", " ".join(str(error).split()))
    if is_memory_short(error):
        return InputError(f"{file}: not enough memory to run this network")
    reason = printable(text if len(text) < REASON else f"... {text[-REASON:]}", 2 * REASON)
    return InputError(f"{file}: {fault} ({reason})")
