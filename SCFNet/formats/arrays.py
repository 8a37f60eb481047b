"""The names by which pickles hold numpy's arrays and Paddle's tensors, and what they stand for."""

import re
from functools import lru_cache
from typing import Any, Dict, List, Tuple, Union

import numpy as np

from SCFNet.formats.unpickle import Deferred, Names, set_items

ARRAY = "numpy.ndarray"  # stands for the class, which is only named
NUMBERS = re.compile(r"[<>=|]?[biufc]\d\d?")  # type codes; others hold objects, text or records


class _Dtype(Deferred):
    """numpy.dtype(code, align, copy), whose state tells the byte order."""

    def __init__(self, code: str, *_: Any) -> None:
        self.value = _number_type(code)

    def finish(self, state: Tuple) -> np.dtype:
        return self.value.newbyteorder(state[1]) if state[1] in ("<", ">") else self.value


class _Array(Deferred):
    """numpy's `_reconstruct`: whose state is (version, shape, dtype, order, data)."""

    def __init__(self, *_: Any) -> None:
        pass

    def finish(self, state: Tuple) -> np.ndarray:
        _, shape, dtype, fortran, data = state
        data = data.encode("latin1") if isinstance(data, str) else data
        return _from_buffer(data, dtype, shape, "F" if fortran else "C")


@lru_cache(maxsize=64)
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
    """Make the array that `checkpoint.dump_plain` has written."""
    return _from_buffer(data, _number_type(code), shape, "C")


def from_bfloat16(raw: np.ndarray) -> np.ndarray:
    """Turn bfloat16 values, which numpy lacks and which are held as uint16, into float32."""
    return (raw.astype("u4") << 16).view("f4")


def _scalar(dtype: np.dtype, data: bytes) -> np.generic:
    return _from_buffer(data, dtype, (1,), "C")[0]


def _encode(text: str, encoding: str) -> bytes:
    """Make bytes as protocol 2 writes them."""
    if encoding != "latin1":
        raise ValueError(f"bytes as {encoding!r}")
    return text.encode("latin1")


def _bytearray(data: Union[bytes, str] = b"", encoding: str = "latin1") -> bytearray:
    """Do `bytearray(data)`, without the form that allocates as many bytes as a number says."""
    return bytearray(_encode(data, encoding) if isinstance(data, str) else memoryview(data))


def _tensor_data(expression: str, variables: Dict[str, Any]) -> Any:
    """Read a lone tensor as Paddle writes it, `eval('data', {'data': array})`, without the eval."""
    if expression != "data":
        raise ValueError(f"eval of {expression!r}")
    return variables["data"]


def tuple_of(items: Tuple = ()) -> Tuple:
    """Read a tensor among others as Paddle writes it, `tuple((name, array))`."""
    if not isinstance(items, tuple):
        raise TypeError("a tuple of something else")
    return items


def dict_of(items: Union[List, Dict, Tuple] = ()) -> Dict:
    """Make an ordered dict of another dict, or of pairs."""
    made: Dict = {}
    set_items(made, items.items() if isinstance(items, dict) else items)
    return made


def _array_names() -> Names:
    names: Dict[Tuple[str, str], Any] = {
        ("numpy", "ndarray"): _ndarray,
        ("numpy", "dtype"): _Dtype,
        ("collections", "OrderedDict"): dict_of,
        ("_codecs", "encode"): _encode,
    }
    for core in ("numpy.core", "numpy._core"):  # numpy 1 and numpy 2
        names[core + ".multiarray", "_reconstruct"] = _Array
        names[core + ".multiarray", "scalar"] = _scalar
        names[core + ".numeric", "_frombuffer"] = _from_buffer
    for builtins in ("builtins", "__builtin__"):
        names[builtins, "tuple"] = tuple_of
        names[builtins, "dict"] = dict_of
        names[builtins, "bytearray"] = _bytearray
        names[builtins, "eval"] = _tensor_data
    return names


ARRAY_NAMES = _array_names()
