"""Pickles of arrays, read by Python's unpickler, which may call nothing but a table of names."""

import pickle
import re
from typing import Any, BinaryIO, Callable, ClassVar, Dict, List, Mapping, Optional, Tuple, Union

import numpy as np

Names = Mapping[Tuple[str, str], Any]  # what (module, name) stands for: a value or a function

NUMBERS = re.compile(r"[<>=|]?[biufc]\d\d?")  # type codes; others hold objects, text or records


class Refused(Exception):
    """A pickle wants what no file of weights needs; the message says what."""


class Deferred:
    """Something that a pickle names first and completes later, by the opcode BUILD.

    `finish` is called with the state and returns the `value`, which later references get.
    """

    value: Any

    def finish(self, state: Any) -> Any:
        raise NotImplementedError


def printable(value: Any, limit: int = 80) -> str:
    """Word `value` for a message: on one line, without control codes, at most `limit` letters."""
    text = repr(value)
    if isinstance(value, str):
        text = text[1:-1]
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= limit else text[:limit] + "..."


def unpickle(
    stream: BinaryIO,
    names: Optional[Names] = None,
    persistent: Optional[Callable[[Any], Any]] = None,
) -> Any:
    """Read the value of the pickle at the stream's position; the stream is left behind it.

    The value is made of plain Python values, and of what the functions in `names` return.

    Args:
        stream: a file in bytes.
        names: the values and functions that the pickle may name; ARRAY_NAMES if None.
        persistent: maps a persistent id to its value.

    Raises Refused for any other name, and any other exception for a damaged pickle.
    """
    return _Unpickler(stream, ARRAY_NAMES if names is None else names, persistent).load()


class _Memo(Dict[int, Any]):
    """What a pickle refers to again: of a Deferred its value."""

    def __getitem__(self, index: int) -> Any:
        value = super().__getitem__(index)
        return value.value if isinstance(value, Deferred) else value


class _Unpickler(pickle._Unpickler):
    """The unpickler in Python: that in C allocates what a damaged file claims."""

    stack: List[Any]

    def __init__(
        self, stream: BinaryIO, names: Names, persistent: Optional[Callable[[Any], Any]]
    ) -> None:
        super().__init__(stream, encoding="latin1")  # of Python 2's str
        self.names, self.persistent, self.memo = names, persistent, _Memo()

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.names:
            called = printable(f"{module}.{name}")
            raise Refused(
                f"it is more than weights: loading it would run {called}; save its state dict alone"
            )
        return self.names[module, name]

    def persistent_load(self, pid: Any) -> Any:
        if self.persistent is None:
            raise Refused("it refers to data outside of it")
        return self.persistent(pid)

    def load_build(self) -> None:
        """Complete a Deferred; a dict's attributes, such as PyTorch's `_metadata`, are dropped."""
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Deferred):
            self.stack[-1] = target.value = target.finish(state)
        elif not isinstance(target, dict):
            raise TypeError("a state for a plain value")

    dispatch: ClassVar[Dict[int, Any]] = {**pickle._Unpickler.dispatch, pickle.BUILD[0]: load_build}


# The names by which pickles hold numpy's arrays and Paddle's tensors, and what they stand for.


class _Dtype(Deferred):
    """numpy.dtype(code, align, copy), whose state tells the byte order."""

    def __init__(self, code: str, *_: Any) -> None:
        self.value = _number_type(code)

    def finish(self, state: Tuple) -> np.dtype:
        return self.value.newbyteorder(state[1]) if state[1] in ("<", ">") else self.value


class _Array(Deferred):
    """numpy's `_reconstruct`, whose state is (version, shape, dtype, order, data)."""

    def __init__(self, *_: Any) -> None:
        pass

    def finish(self, state: Tuple) -> np.ndarray:
        _, shape, dtype, fortran, data = state
        data = data.encode("latin1") if isinstance(data, str) else data
        return _from_buffer(data, dtype, shape, "F" if fortran else "C")


def _number_type(code: str) -> np.dtype:
    if not NUMBERS.fullmatch(code):
        raise ValueError(f"an array of {code!r}")
    return np.dtype(code)


def _from_buffer(
    data: Union[bytes, bytearray], dtype: Union[np.dtype, _Dtype], shape: Tuple, order: str
) -> np.ndarray:
    """Make an array as protocol 5 writes it."""
    dtype = dtype.value if isinstance(dtype, _Dtype) else dtype
    if not isinstance(data, (bytes, bytearray)) or not isinstance(dtype, np.dtype):
        raise TypeError("no data, or no dtype")
    values = np.frombuffer(data, dtype)
    return values.reshape(shape, order="F" if order == "F" else "C").copy("A")


def _ndarray(shape: Tuple[int, ...], code: str, data: bytearray) -> np.ndarray:
    """Make an array as `checkpoint.dump_plain` writes it."""
    return _from_buffer(data, _number_type(code), shape, "C")


def _scalar(dtype: np.dtype, data: bytes) -> np.generic:
    return _from_buffer(data, dtype, (1,), "C")[0]


def _encode(text: str, _: str) -> bytes:
    """Make bytes as protocol 2 writes them, in latin1 always: other codecs decompress."""
    return text.encode("latin1")


def _tensor_data(expression: str, variables: Dict[str, Any]) -> Any:
    """Read a lone tensor as Paddle writes it, `eval('data', {'data': array})`, without the eval."""
    if expression != "data":
        raise ValueError(f"eval of {expression!r}")
    return variables["data"]


ARRAY_NAMES: Names = {
    ("numpy", "ndarray"): _ndarray,
    ("numpy", "dtype"): _Dtype,
    ("collections", "OrderedDict"): dict,
    ("_codecs", "encode"): _encode,
    **{
        (f"{core}.{module}", name): function
        for core in ("numpy.core", "numpy._core")  # numpy 1 and numpy 2
        for module, name, function in (
            ("multiarray", "_reconstruct", _Array),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
    **{
        (builtins, name): function
        for builtins in ("builtins", "__builtin__")  # Python 3 and Python 2
        for name, function in (
            ("tuple", tuple),
            ("dict", dict),
            ("bytearray", bytearray),
            ("eval", _tensor_data),
        )
    },
}
