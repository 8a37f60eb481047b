"""Pickles of arrays, read by an interpreter that builds plain values and can run nothing.

Python's own unpickler calls what a file names, allocates what a file claims, and follows a file
into endless recursion. This one knows the opcodes of protocols 2 to 5 alone, admits a table of
names, never recurses, and spends on a file a few times its size and a few million steps.
"""

import os
import re
import struct
from functools import lru_cache
from typing import Any, BinaryIO, Callable, Dict, List, Mapping, Optional, Tuple, Union

import numpy as np

Names = Mapping[Tuple[str, str], Any]  # what (module, name) stands for: a value or a function

MAX_STEPS = 2_000_000  # opcodes, and values in what is returned
MAX_DEPTH = 50  # containers within containers
MAX_INTEGER = 255  # bytes
MAX_NAME = 300  # letters of a module and a name
NUMBERS = re.compile(r"[<>=|]?[biufc]\d\d?")  # type codes; others hold objects, text or records
COPIES = 4  # a datum may be decoded, packed and made an array
SLACK = 1 << 20  # bytes that a file of any size may spend


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
    beside: int = 0,
) -> Any:
    """Read the value of the pickle at the stream's position; the stream is left behind it.

    The value is made of None, bool, int, float, str, bytes, bytearray, list, tuple, dict, and of
    what the functions in `names` return; it is a tree of at most `MAX_STEPS` values, at most
    `MAX_DEPTH` deep, so that any code may walk it.

    Args:
        stream: a file in bytes, which can seek.
        names: the values and functions that the pickle may name; ARRAY_NAMES if None.
        persistent: maps a persistent id to its value.
        beside: bytes of data that the persistent values hold outside of the stream.

    Raises Refused for what is not admitted, and any other exception for a damaged pickle.
    """
    machine = _Machine(stream, ARRAY_NAMES if names is None else names, persistent, beside)
    for _ in range(MAX_STEPS):
        opcode = stream.read(1)
        if opcode == b".":
            value = machine.stack.pop()
            _check_tree(value)
            return value
        OPERATIONS[opcode](machine)
    raise Refused(f"it takes more than {MAX_STEPS} steps to read")


def _check_tree(value: Any) -> None:
    """Refuse a value that is too deep, or that holds itself, or grows when it is walked."""
    total, level = 0, [value]
    for _ in range(MAX_DEPTH):
        if any(isinstance(item, Deferred) or callable(item) for item in level):
            raise ValueError("a name that was not called, or an array without its data")
        level = [item for item in level if isinstance(item, (list, tuple, dict))]
        total += sum(map(len, level))
        if total > MAX_STEPS:
            raise Refused(f"it unfolds to more than {MAX_STEPS} values")
        if not level:
            return
        level = [
            child for item in level for child in (item.values() if isinstance(item, dict) else item)
        ]
    raise Refused(f"it nests more than {MAX_DEPTH} levels")


def _size(value: Any) -> int:
    """Count the bytes that `value` takes, without what its items take."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, (list, tuple, dict)):
        return 8 * len(value)
    return len(value) if isinstance(value, (bytes, bytearray, str)) else 0


class _Machine:
    """The stack and the memo of one pickle, and what may be spent on it."""

    def __init__(
        self,
        stream: BinaryIO,
        names: Names,
        persistent: Optional[Callable[[Any], Any]],
        beside: int,
    ) -> None:
        here = stream.tell()
        self.size = stream.seek(0, os.SEEK_END) - here
        stream.seek(here)
        self.budget = COPIES * (self.size + beside) + SLACK
        self.stream, self.names, self.persistent = stream, names, persistent
        self.stack: List[Any] = []
        self.marks: List[int] = []  # heights of the stack
        self.memo: Dict[int, Any] = {}

    def take(self, size: int) -> bytes:
        """Read the next `size` bytes."""
        data = self.stream.read(size) if size <= self.size else b""
        if len(data) < size:
            raise EOFError("cut short")
        return data

    def number(self, code: str) -> Any:
        """Read the next number, of a struct `code`."""
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def data(self, code: str) -> bytes:
        """Read the next number, of a struct `code`, and as many bytes as it says."""
        return self.take(self.number(code))

    def line(self) -> str:
        data = self.stream.readline(MAX_NAME)
        if not data.endswith(b"\n"):
            raise Refused("it has a name without an end")
        return data[:-1].decode()

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop_to_mark(self) -> List[Any]:
        height = self.marks.pop()
        items = self.stack[height:]
        del self.stack[height:]
        return items

    def pop_last(self, count: int) -> List[Any]:
        items = self.stack[-count:]
        if len(items) < count:
            raise IndexError("an empty stack")
        del self.stack[-count:]
        return items

    def spend(self, value: Any) -> Any:
        """Return `value`, its size taken from the budget: no datum is copied for ever."""
        self.budget -= _size(value)
        if self.budget < 0:
            raise Refused("it unfolds to much more than its size")
        return value

    def push_name(self, module: Any, name: Any) -> None:
        if (module, name) not in self.names:
            called = printable(f"{module}.{name}")
            raise Refused(
                f"it is more than weights: loading it would run {called}; save its state dict alone"
            )
        self.push(self.names[module, name])

    def call(self) -> None:
        function, arguments = self.pop_last(2)
        if type(arguments) is not tuple:
            raise TypeError("arguments that are no tuple")
        self.stack.append(self.spend(function(*arguments)))

    def build(self) -> None:
        target, state = self.pop_last(2)
        if isinstance(target, Deferred):
            target.value = self.spend(target.finish(state))
            self.push(target.value)
        elif isinstance(target, dict):
            self.push(target)  # an attribute of a dict, such as PyTorch's `_metadata`
        else:
            raise TypeError("a state for a plain value")

    def set_items(self, items: List[Any]) -> None:
        set_items(self.stack[-1], _pairs(items))

    def append(self, items: List[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise TypeError("items for what is no list")
        self.stack[-1].extend(items)

    def remember(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def recall(self, index: int) -> None:
        value = self.memo[index]
        self.stack.append(value.value if isinstance(value, Deferred) else value)

    def push_integer(self, size: int) -> None:
        if not 0 <= size <= MAX_INTEGER:
            raise Refused(f"it has an integer of {size} bytes")
        self.push(int.from_bytes(self.take(size), "little", signed=True))

    def push_text(self, code: str) -> None:
        self.push(self.data(code).decode("utf-8", "surrogatepass"))

    def push_persistent(self) -> None:
        if self.persistent is None:
            raise Refused("it refers to data outside of it")
        self.push(self.persistent(self.stack.pop()))


def _pairs(items: List[Any]) -> List[Tuple[Any, Any]]:
    """Pair up what lies on the stack in a row: key, value, key, value."""
    if len(items) % 2:
        raise ValueError("a key without a value")
    return list(zip(items[::2], items[1::2]))


def set_items(target: Any, pairs: Any) -> None:
    """Put `pairs` into the dict `target`; keys are plain values, whose hash is a simple one."""
    if type(target) is not dict:
        raise TypeError("pairs for what is no dict")
    for key, value in pairs:
        if type(key) not in (str, int, float, bool, bytes, type(None)):
            raise Refused(f"it has a {type(key).__name__} as a key")
        target[key] = value


def dict_of(items: Any = ()) -> Dict[Any, Any]:
    """Make a dict, ordered or not, of another dict or of pairs."""
    made: Dict[Any, Any] = {}
    set_items(made, items.items() if isinstance(items, dict) else items)
    return made


OPERATIONS: Dict[bytes, Callable[[_Machine], Any]] = {
    # the frame of the file
    b"\x80": lambda m: m.take(1),  # PROTO
    b"\x95": lambda m: m.take(8),  # FRAME
    # plain values
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"K": lambda m: m.push(m.number("B")),
    b"M": lambda m: m.push(m.number("<H")),
    b"J": lambda m: m.push(m.number("<i")),
    b"G": lambda m: m.push(m.number(">d")),
    b"\x8a": lambda m: m.push_integer(m.number("B")),
    b"\x8b": lambda m: m.push_integer(m.number("<i")),
    b"\x8c": lambda m: m.push_text("B"),
    b"X": lambda m: m.push_text("<I"),
    b"\x8d": lambda m: m.push_text("<Q"),
    b"U": lambda m: m.push(m.data("B").decode("latin1")),  # Python 2's str
    b"T": lambda m: m.push(m.data("<I").decode("latin1")),
    b"C": lambda m: m.push(m.data("B")),
    b"B": lambda m: m.push(m.data("<I")),
    b"\x8e": lambda m: m.push(m.data("<Q")),
    b"\x96": lambda m: m.push(bytearray(m.data("<Q"))),
    # the stack and the memo
    b"(": lambda m: m.marks.append(len(m.stack)),
    b"0": lambda m: m.stack.pop(),
    b"1": _Machine.pop_to_mark,
    b"2": lambda m: m.push(m.stack[-1]),
    b"q": lambda m: m.remember(m.number("B")),
    b"r": lambda m: m.remember(m.number("<I")),
    b"\x94": lambda m: m.remember(len(m.memo)),
    b"h": lambda m: m.recall(m.number("B")),
    b"j": lambda m: m.recall(m.number("<I")),
    # containers
    b")": lambda m: m.push(()),
    b"\x85": lambda m: m.push(tuple(m.pop_last(1))),
    b"\x86": lambda m: m.push(tuple(m.pop_last(2))),
    b"\x87": lambda m: m.push(tuple(m.pop_last(3))),
    b"t": lambda m: m.push(tuple(m.pop_to_mark())),
    b"]": lambda m: m.push([]),
    b"l": lambda m: m.push(m.pop_to_mark()),
    b"a": lambda m: m.append(m.pop_last(1)),
    b"e": lambda m: m.append(m.pop_to_mark()),
    b"}": lambda m: m.push({}),
    b"d": lambda m: m.push(dict_of(_pairs(m.pop_to_mark()))),
    b"s": lambda m: m.set_items(m.pop_last(2)),
    b"u": lambda m: m.set_items(m.pop_to_mark()),
    # names
    b"c": lambda m: m.push_name(m.line(), m.line()),
    b"\x93": lambda m: m.push_name(*m.pop_last(2)),
    b"R": _Machine.call,
    b"\x81": _Machine.call,  # NEWOBJ
    b"b": _Machine.build,
    b"Q": _Machine.push_persistent,
}


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


def _encode(text: str, encoding: str) -> bytes:
    """Make bytes as protocol 2 writes them."""
    if encoding != "latin1":
        raise ValueError(f"bytes as {encoding!r}")
    return text.encode("latin1")


def _bytearray(data: Union[bytes, str] = b"", encoding: str = "latin1") -> bytearray:
    """Make a bytearray of data, not one of as many bytes as a number says."""
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


ARRAY_NAMES: Names = {
    # how `checkpoint.dump_plain` writes arrays
    ("numpy", "ndarray"): lambda shape, code, data: _from_buffer(data, _Dtype(code), shape, "C"),
    ("numpy", "dtype"): _Dtype,
    ("collections", "OrderedDict"): dict_of,
    ("_codecs", "encode"): _encode,
    **{
        (f"{core}.{module}", name): function
        for core in ("numpy.core", "numpy._core")  # numpy 1 and numpy 2
        for module, name, function in (
            ("multiarray", "_reconstruct", _Array),
            ("multiarray", "scalar", lambda dtype, data: _from_buffer(data, dtype, (1,), "C")[0]),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
    **{
        (builtins, name): function
        for builtins in ("builtins", "__builtin__")  # Python 3 and Python 2
        for name, function in (
            ("tuple", tuple_of),
            ("dict", dict_of),
            ("bytearray", _bytearray),
            ("eval", _tensor_data),
        )
    },
}
