"""Checkpoints: reading any without running what is in it, and writing them safely.

Nothing here imports Paddle or a network, but for `build_net`, which builds one.
"""

import hashlib
import io
import pickle
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Callable, Dict, List, Tuple

import numpy as np

from SCFNet import IS_INSTALLED, NEEDS_REPOSITORY, WEIGHTS
from SCFNet.errors import CheckpointError, InputError, is_memory_short
from SCFNet.files import PathLike, write_atomically
from SCFNet.formats.torch_files import from_bfloat16, read_weights
from SCFNet.formats.unpickle import COPIES, SLACK, Refused, printable, unpickle

if TYPE_CHECKING:
    import paddle

    from SCFNet.net import SaliencyNet

StateDict = Dict[str, np.ndarray]

# Names under which training scripts wrap a state dict, the likeliest first.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "student", "weights", "params")
SLICES = "UnpackBigParamInfor@@"  # Paddle's spelling
PARALLEL = "module."  # what PyTorch's DataParallel puts before each key
STATISTICS = {"running_mean": "_mean", "running_var": "_variance"}  # PyTorch's names, Paddle's
SHARPENED = "sharpened"  # beside the weights: what the logits were multiplied by since training
MAX_KEY = 300  # letters
MAX_SIZE = 2 << 30  # bytes of a file: twice the largest training state

# The shipped files by the names that stand for them, and the one if none is named. Where the
# checkpoints are not, as in an installed package, it is the exported files.
SHIPPED = {
    name: WEIGHTS / (stem + (".pdparams" if (WEIGHTS / f"{stem}.pdparams").is_file() else ".onnx"))
    for name, stem in (("small", "KD-SCFNet-DUTS"), ("accurate", "SCFNet-EL-DUTS"))
}
DEFAULT_WEIGHTS = SHIPPED["accurate"]


class _Pickler(pickle.Pickler):
    """Writes arrays by names that numpy 1 and numpy 2 both have."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is np.ndarray:
            data = bytearray(np.ascontiguousarray(value))
            return np.ndarray, (value.shape, value.dtype.str, data)
        return NotImplemented


def dump_plain(value: Any) -> bytes:
    """Pickle plain containers, numbers, strings and arrays so that any numpy reads them."""
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=4).dump(value)
    return buffer.getvalue()


def load_plain(path: PathLike) -> Any:
    """Unpickle plain containers, numbers, strings and arrays from `path`.

    Raises CheckpointError that names the file if it is missing, damaged, not a pickle, would take
    much more memory than its size, or names anything else than these (which is then not run).
    """
    return _read(Path(path), unpickle)


def find_weights(name: PathLike) -> Path:
    """Find the shipped file that `name`, a key of `SHIPPED`, stands for; else `name` is the file.

    './small' is a file of that name, 'small' the shipped one.
    """
    return SHIPPED.get(str(name), Path(name))


def check_weights(
    path: PathLike, hint: str = "; weights/README.md says where published files are"
) -> None:
    """Raise CheckpointError, with `hint` at its end, unless `path` is a file."""
    if path == "":  # which Path takes for the current folder
        raise CheckpointError(f"the name of the weights is empty{hint}")
    try:
        found = Path(path).stat()
    except (OSError, ValueError) as error:
        fault = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path}: cannot be read: {fault}{hint}") from error
    if not stat.S_ISREG(found.st_mode):  # opening a pipe would wait for a writer
        raise CheckpointError(f"{path}: is a folder, a pipe or a device, not a file{hint}")
    if found.st_size > MAX_SIZE:
        raise CheckpointError(f"{path}: refused, it is larger than {MAX_SIZE >> 30} GB")


def _read(path: Path, reader: Callable[[BinaryIO], Any]) -> Any:
    """Read the file `path` by `reader`, whose exceptions become a CheckpointError."""
    check_weights(path, hint="")
    try:
        with path.open("rb") as stream:
            return reader(stream)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Refused as error:
        raise CheckpointError(f"{path}: refused, {error}") from error
    except Exception as error:  # a damaged file can raise anything
        if is_memory_short(error):
            raise CheckpointError(f"{path}: not enough memory") from error
        raise CheckpointError(
            f"{path}: not a checkpoint, or damaged ({type(error).__name__}); fetch it again"
        ) from error


def load_checkpoint(path: PathLike) -> StateDict:
    """Read the weights of a `.pdparams` or a PyTorch file: {key: array}, in the file's order.

    Reads what Paddle 1.8 to 3.x writes (pickle protocols 2 to 5, numpy 1 or 2, parameters over
    1 GB in slices), and what PyTorch writes (archives and legacy files), bare or wrapped in dicts
    under `WRAPPERS`. Keys get Paddle's names: without `module.`, with `_mean` and `_variance`.

    Raises CheckpointError: see `load_plain`; also if there are no weights in it, if one is infinite
    or not a number, or if a key is no name.
    """
    check_weights(path)
    path = Path(path)
    found = _read(path, read_weights)
    while isinstance(found, dict) and any(isinstance(found.get(name), dict) for name in WRAPPERS):
        found = next(found[name] for name in WRAPPERS if isinstance(found.get(name), dict))
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: holds a {type(found).__name__}, not a state dict")
    state = _weights(path, found)
    if not state:
        names = ", ".join(printable(key) for key in list(found)[:5]) or "nothing"
        raise CheckpointError(f"{path}: no weights in it; it holds {names}")
    return _named_by_paddle(state)


def sharpened_by(path: PathLike) -> float:
    """Read the factor by which `export.sharpen_logits` multiplied a checkpoint's logits, or 1.

    Raises CheckpointError: see `load_plain`.
    """
    found = _read(Path(path), read_weights)
    factor = found.get(SHARPENED, 1) if isinstance(found, dict) else 1
    return float(factor) if isinstance(factor, (int, float)) else 1.0


def _weights(path: Path, found: Dict[Any, Any]) -> StateDict:
    """Collect the arrays of numbers in `found`, and join those that Paddle has cut into slices.

    Raises CheckpointError for weights that no network can have.
    """
    slices = found.get(SLICES, {})
    arrays = {}
    for key, value in found.items():
        if isinstance(value, tuple) and len(value) == 2:  # (parameter's name, array)
            value = value[1]
        if isinstance(key, str) and isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            arrays[key] = value
    size = sum(value.nbytes for value in arrays.values())
    if size > COPIES * path.stat().st_size + SLACK:  # one array under many keys
        raise CheckpointError(f"{path}: refused, {size} bytes of weights in a smaller file")
    try:
        for key, whole in slices.items():
            parts = [arrays.pop(part) for part in whole["slices"]]
            arrays[key] = np.concatenate(parts).reshape(whole["OriginShape"])
    except Exception as error:  # a damaged file can raise anything
        if is_memory_short(error):
            raise CheckpointError(f"{path}: not enough memory") from error
        raise CheckpointError(f"{path}: damaged, a parameter lacks a slice") from error
    for key, value in arrays.items():
        if value.dtype == np.uint16:  # how Paddle writes bfloat16
            arrays[key] = value = from_bfloat16(value)
        if len(key) > MAX_KEY or not key.isprintable():
            raise CheckpointError(f"{path}: refused, a weight is called {printable(key)}")
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
            finite = np.isfinite(value.astype("float32", copy=False)).all()
        if not finite:
            raise CheckpointError(f"{path}: {key} is infinite or not a number in places")
    return arrays


def _named_by_paddle(state: StateDict) -> StateDict:
    """Rename what PyTorch calls otherwise to Paddle's names."""
    while all(key.startswith(PARALLEL) for key in state):
        state = {key[len(PARALLEL) :]: value for key, value in state.items()}
    named = {}
    for key, value in state.items():
        layer, dot, name = key.rpartition(".")
        if name != "num_batches_tracked":
            named[layer + dot + STATISTICS.get(name, name)] = value
    return named


def digest(state: StateDict) -> str:
    """Compute the SHA-256, in hex, of keys, shapes, types and values, however they were pickled."""
    total = hashlib.sha256()
    for key in sorted(state):
        array = np.ascontiguousarray(state[key])
        total.update(f"{key} {array.dtype.str} {array.shape}".encode())
        total.update(array.data)
    return total.hexdigest()


def assign_weights(net: "paddle.nn.Layer", state: StateDict, source: str) -> None:
    """Put the arrays of `state` into `net`; `source` names them in the error.

    Raises CheckpointError with the first missing, unexpected and mismatched keys.
    """
    from SCFNet.zoo import detect_network

    net_state = net.state_dict()
    phrases = _differences(net_state, state)
    if phrases:
        fault = f"does not fit the network: {'; '.join(phrases)}"
        wanted = getattr(net, "model_type", "")
        with suppress(InputError):
            found = detect_network(state)
            if wanted and found != wanted:
                fault = f"is of {found}, not of {wanted}"
        raise CheckpointError(f"{source}: {fault}")
    for key, tensor in net_state.items():
        dtype = str(tensor.dtype).rsplit(".", 1)[-1]
        tensor.set_value(state[key].astype(dtype, copy=False))


def _differences(net_state: Dict[str, Any], state: StateDict) -> List[str]:
    """Describe what does not fit, in phrases; none if all fits."""
    shapes = {key: list(value.shape) for key, value in state.items()}
    wanted = {key: list(value.shape) for key, value in net_state.items()}
    missing = [key for key in wanted if key not in shapes]
    unexpected = [key for key in shapes if key not in wanted]
    phrases = [
        f"{len(keys)} {kind}, first {printable(keys[0], MAX_KEY)}"
        for kind, keys in (("missing", missing), ("unexpected", unexpected))
        if keys
    ]
    mismatched = [key for key in wanted if shapes.get(key, wanted[key]) != wanted[key]]
    if mismatched:
        key = mismatched[0]
        both = f"{shapes[key]} for the network's {wanted[key]}"
        phrases.append(f"{len(mismatched)} mismatched, first {key} ({both})")
    return phrases


def load_weights(net: "paddle.nn.Layer", path: PathLike) -> None:
    """Load the checkpoint at `path` into `net`. Raises CheckpointError as `assign_weights` does."""
    assign_weights(net, load_checkpoint(path), str(path))


def load_network(path: PathLike) -> Tuple[str, StateDict]:
    """Read the checkpoint at `path`: its network's name, told from the keys, and its weights.

    Raises CheckpointError if it is of none of this repository's networks, or damaged.
    """
    from SCFNet.zoo import detect_network

    state = load_checkpoint(path)
    try:
        return detect_network(state), state
    except InputError as error:
        raise CheckpointError(f"{path}: {error}") from error


def load_net(path: PathLike) -> "SaliencyNet":
    """Build the network of the checkpoint at `path`, in eval mode.

    Raises CheckpointError as `load_network` does, and in an installed package, which has no
    networks.
    """
    if IS_INSTALLED:
        raise CheckpointError(f"{path}: {NEEDS_REPOSITORY}")
    return build_net(*load_network(path), str(path))


def build_net(name: str, state: StateDict, source: str) -> "SaliencyNet":
    """Build the network that `load_network` has read, in eval mode; `source` names it in errors.

    Raises CheckpointError if the weights do not fit.
    """
    from SCFNet.zoo import build_network

    net = build_network(name, decoder="scfm" if "linear5.weight" in state else "base")
    assign_weights(net, state, source)
    net.eval()
    return net


def save_weights(net: "paddle.nn.Layer", path: PathLike, sharpened: float = 1) -> None:
    """Write `net`'s state dict as a `.pdparams`, atomically.

    Other than 1, `sharpened` is noted under `SHARPENED`, which loading ignores. `paddle.load` reads
    the file under numpy 1 and 2. Raises InputError if it cannot be written.
    """
    state: Dict[str, Any] = {k: np.asarray(t.numpy()) for k, t in net.state_dict().items()}
    if sharpened != 1:
        state[SHARPENED] = float(sharpened)
    write_atomically(path, dump_plain(state))
