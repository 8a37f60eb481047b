"""Checkpoints: reading any `.pdparams` without running what is in it, and writing them safely.

Nothing here imports Paddle, but for `load_net`, which builds a network.
"""

import hashlib
import io
import pickle
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Tuple

import numpy as np

from datasets.files import InputError, PathLike, write_atomically
from SCFNet.zoo import build_network, detect_network

if TYPE_CHECKING:
    from SCFNet.net import SaliencyNet

StateDict = Dict[str, np.ndarray]

# Names under which training scripts wrap a state dict, the likeliest first.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "student", "weights", "params")
NAME_TABLE = "StructuredToParameterName"
SLICES = "UnpackBigParamInfor"  # Paddle's spelling


class CheckpointError(InputError):
    """A checkpoint that cannot be read, is refused, or does not fit the network."""


def _encode(text: str, encoding: str) -> bytes:
    """Protocol 2's way to write bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes as {encoding!r}")
    return text.encode("latin1")


def _tensor_data(expression: str, variables: Dict[str, Any]) -> Any:
    """Paddle's way to write a lone tensor, `eval('data', {'data': array})`, without the eval."""
    if expression != "data":
        raise pickle.UnpicklingError(f"eval of {expression!r}")
    return variables["data"]


class _DType:
    """Stands for numpy.dtype, whose own `__setstate__` can crash on a damaged file."""

    def __init__(self, code: str, align: bool = False, copy: bool = False) -> None:
        self.dtype = np.dtype(code)
        if self.dtype.kind not in "biufc":
            raise pickle.UnpicklingError(f"an array of {code!r}")

    def __setstate__(self, state: Tuple) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands for numpy.ndarray, for the same reason; `value` is the array."""

    def __init__(self, *args: Any) -> None:
        """Either what `_Pickler` writes, (shape, dtype's code, bytes), or to be set later."""
        if len(args) == 3 and isinstance(args[2], bytearray):
            self._set(args[2], _DType(args[1]), args[0], "C")

    def __setstate__(self, state: Tuple) -> None:
        _, shape, dtype, fortran, data = state
        self._set(data, dtype, shape, "F" if fortran else "C")

    def _set(self, data: Any, dtype: _DType, shape: Tuple[int, ...], order: str) -> None:
        data = data.encode("latin1") if isinstance(data, str) else data
        self.value = np.frombuffer(data, dtype.dtype).reshape(shape, order=order).copy()


def _frombuffer(data: bytes, dtype: _DType, shape: Tuple[int, ...], order: str) -> np.ndarray:
    """Protocol 5's way to write an array."""
    return np.frombuffer(data, dtype.dtype).reshape(shape, order=order).copy()


def _scalar(dtype: _DType, data: bytes) -> np.generic:
    return np.frombuffer(data, dtype.dtype)[0]


def _plain(value: Any) -> Any:
    """`value` with the stand-ins replaced by their arrays."""
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item) for item in value)
    return value


ADMITTED: Dict[Tuple[str, str], Callable] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("collections", "OrderedDict"): dict,
    ("_codecs", "encode"): _encode,
}
for _core in ("numpy.core", "numpy._core"):  # numpy 1 and numpy 2
    ADMITTED[_core + ".multiarray", "_reconstruct"] = _Array
    ADMITTED[_core + ".multiarray", "scalar"] = _scalar
    ADMITTED[_core + ".numeric", "_frombuffer"] = _frombuffer
for _builtins in ("builtins", "__builtin__"):
    ADMITTED.update({(_builtins, kind.__name__): kind for kind in (tuple, list, dict, bytearray)})
    ADMITTED[_builtins, "eval"] = _tensor_data


class _Unpickler(pickle.Unpickler):
    """Admits numpy arrays and plain containers; anything else is refused before it is looked up."""

    def find_class(self, module: str, name: str) -> Callable:
        if (module, name) not in ADMITTED:
            raise CheckpointError(f"it is more than weights: loading it would run {module}.{name}")
        return ADMITTED[module, name]


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

    Raises CheckpointError that names the file where it is missing, damaged, not a pickle, or
    names anything else than these (which is then not run).
    """
    try:
        with Path(path).open("rb") as stream:
            return _plain(_Unpickler(stream, encoding="latin1").load())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    except CheckpointError as error:
        raise CheckpointError(f"{path}: refused, {error}") from error
    except Exception as error:  # a damaged pickle can raise anything
        raise CheckpointError(
            f"{path}: not a checkpoint, or damaged ({type(error).__name__}); fetch it again"
        ) from error


def load_checkpoint(path: PathLike) -> StateDict:
    """The weights of a `.pdparams` file as {key: array}, in the file's order.

    Reads what Paddle 1.8 to 3.x writes (pickle protocols 2 to 5, numpy 1 or 2, parameters over
    1 GB in slices), bare or wrapped in a dict under one of `WRAPPERS`.

    Raises CheckpointError: see `load_plain`; also where there are no weights in it.
    """
    found = load_plain(path)
    for name in WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(name), dict):
            found = found[name]
            break
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: holds a {type(found).__name__}, not a state dict")
    found = dict(found)
    found.pop(NAME_TABLE, None)
    slices = found.pop(SLICES, {})
    try:
        for key, whole in slices.items():
            parts = [found.pop(part) for part in whole["slices"]]
            found[key] = np.concatenate(parts).reshape(whole["OriginShape"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged, a parameter lacks a slice ({error})") from error
    state: StateDict = {}
    for key, value in found.items():
        if isinstance(value, tuple) and len(value) == 2:  # (parameter's name, array)
            value = value[1]
        if isinstance(key, str) and isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            state[key] = value
    if not state:
        names = ", ".join(map(str, list(found)[:5])) or "nothing"
        raise CheckpointError(f"{path}: no weights in it; it holds {names}")
    return state


def digest(state: StateDict) -> str:
    """SHA-256 of the keys, shapes, types and values, in hex: the same however it was pickled."""
    total = hashlib.sha256()
    for key in sorted(state):
        array = np.ascontiguousarray(state[key])
        total.update(f"{key} {array.dtype.str} {array.shape}".encode())
        total.update(array)
    return total.hexdigest()


def _differences(net_state: Dict[str, Any], state: StateDict) -> List[str]:
    """What does not fit, as readable phrases; empty where all fits."""
    phrases = []
    missing = [key for key in net_state if key not in state]
    unexpected = [key for key in state if key not in net_state]
    mismatched = [
        key
        for key in net_state
        if key in state and list(net_state[key].shape) != list(state[key].shape)
    ]
    for kind, keys in (("missing", missing), ("unexpected", unexpected)):
        if keys:
            phrases.append(f"{len(keys)} {kind}, first {keys[0]}")
    if mismatched:
        key = mismatched[0]
        shapes = f"{list(state[key].shape)} for the network's {list(net_state[key].shape)}"
        phrases.append(f"{len(mismatched)} mismatched, first {key} ({shapes})")
    return phrases


def _network_of(state: StateDict) -> str:
    """The name of the network of `state`; '' if it is none of this repository's."""
    try:
        return detect_network(state)
    except InputError:
        return ""


def assign_weights(net: Any, state: StateDict, source: str, strict: bool = True) -> None:
    """Put the arrays of `state` into `net`; `source` names them in the error.

    Raises CheckpointError with the first missing, unexpected and mismatched keys; with
    `strict=False` warns instead and assigns what fits.
    """
    net_state = net.state_dict()
    phrases = _differences(net_state, state)
    if phrases:
        message = f"{source}: does not fit the network: {'; '.join(phrases)}"
        wanted, found = getattr(net, "model_type", ""), _network_of(state)
        if wanted and found and wanted != found:
            message = f"{source}: is of {found}, not of {wanted}"
        if strict:
            raise CheckpointError(message)
        warnings.warn(message, stacklevel=3)
    for key, tensor in net_state.items():
        if key in state and list(tensor.shape) == list(state[key].shape):
            dtype = str(tensor.dtype).rsplit(".", 1)[-1]
            tensor.set_value(state[key].astype(dtype, copy=False))


def load_weights(net: Any, path: PathLike, strict: bool = True) -> None:
    """Load the checkpoint at `path` into `net`, all of it or, with `strict=False`, what fits.

    Raises CheckpointError, one line that names the file and the first missing, unexpected and
    mismatched keys, with both shapes. `strict=False` warns instead.
    """
    assign_weights(net, load_checkpoint(path), str(path), strict)


def load_net(path: PathLike) -> "SaliencyNet":
    """The network of the checkpoint at `path`, told from its keys, in eval mode.

    Raises CheckpointError if it is none of this repository's networks, or damaged.
    """
    state = load_checkpoint(path)
    try:
        name = detect_network(state)
    except InputError as error:
        raise CheckpointError(f"{path}: {error}") from error
    net = build_network(name, decoder="scfm" if "linear5.weight" in state else "base")
    assign_weights(net, state, str(path))
    net.eval()
    return net


def save_weights(net: Any, path: PathLike) -> None:
    """Write `net`'s state dict as a `.pdparams`, atomically.

    `paddle.load` reads it under numpy 1 and 2. Raises InputError where it cannot be written.
    """
    state = {key: np.asarray(tensor.numpy()) for key, tensor in net.state_dict().items()}
    write_atomically(path, dump_plain(state))
