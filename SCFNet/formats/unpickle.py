"""Pickles of arrays, read by an interpreter that builds plain values and can run nothing.

Python's own unpickler calls what a file names, allocates what a file claims, and follows a file
into endless recursion. Here `pickletools` reads the opcodes, which are those of protocols 2 to 5;
the names are those of a table, nothing recurses, and a file is given a few times its size and a few
million steps.
"""

import os
import pickletools
import re
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

    `finish` makes the `value`, which later references get, of BUILD's state.
    """

    def __init__(self, finish: Callable[[Any], Any], value: Any = None) -> None:
        self.finish, self.value = finish, value


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
    source = _Source(stream)
    budget = COPIES * (source.size + beside) + SLACK
    machine = _Machine(ARRAY_NAMES if names is None else names, persistent, budget)
    opcodes = pickletools.genops(source)  # type: ignore[arg-type]
    for step, (opcode, argument, _) in enumerate(opcodes):
        if step >= MAX_STEPS:
            raise Refused(f"it takes more than {MAX_STEPS} steps to read")
        OPERATIONS[opcode.name](machine, argument)
    value = machine.stack.pop()
    _check_tree(value)
    return value


class _Source:
    """What is left of a stream, for `pickletools`: no claim of a file allocates more than that."""

    def __init__(self, stream: BinaryIO) -> None:
        here = stream.tell()
        self.size = stream.seek(0, os.SEEK_END) - here
        stream.seek(here)
        self.stream = stream

    def read(self, size: int) -> bytes:
        return self.stream.read(min(size, self.size))

    def readline(self) -> bytes:
        return self.stream.readline(MAX_NAME)


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
    """The stack and the memo of one pickle, and the bytes that may be spent on it."""

    def __init__(
        self, names: Names, persistent: Optional[Callable[[Any], Any]], budget: int
    ) -> None:
        self.names, self.persistent, self.budget = names, persistent, budget
        self.stack: List[Any] = []
        self.marks: List[int] = []  # heights of the stack
        self.memo: Dict[int, Any] = {}

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def push_integer(self, value: int) -> None:
        size = (value.bit_length() + 7) // 8
        if size > MAX_INTEGER:
            raise Refused(f"it has an integer of {size} bytes")
        self.push(value)

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
        self.push(self.spend(function(*arguments)))

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
        self.push(value.value if isinstance(value, Deferred) else value)

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


# What is done at each opcode, called by the machine and the opcode's argument.
OPERATIONS: Dict[str, Callable[[_Machine, Any], Any]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda m, _: None),
    # plain values
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "BINFLOAT"), _Machine.push),
    **dict.fromkeys(("LONG1", "LONG4"), _Machine.push_integer),
    **dict.fromkeys(("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"), _Machine.push),
    **dict.fromkeys(("SHORT_BINSTRING", "BINSTRING"), _Machine.push),  # Python 2's str
    **dict.fromkeys(("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"), _Machine.push),
    # the stack and the memo
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    "POP": lambda m, _: m.stack.pop(),
    "POP_MARK": lambda m, _: m.pop_to_mark(),
    "DUP": lambda m, _: m.push(m.stack[-1]),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _Machine.remember),
    "MEMOIZE": lambda m, _: m.remember(len(m.memo)),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _Machine.recall),
    # containers
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "TUPLE1": lambda m, _: m.push(tuple(m.pop_last(1))),
    "TUPLE2": lambda m, _: m.push(tuple(m.pop_last(2))),
    "TUPLE3": lambda m, _: m.push(tuple(m.pop_last(3))),
    "TUPLE": lambda m, _: m.push(tuple(m.pop_to_mark())),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "LIST": lambda m, _: m.push(m.pop_to_mark()),
    "APPEND": lambda m, _: m.append(m.pop_last(1)),
    "APPENDS": lambda m, _: m.append(m.pop_to_mark()),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "DICT": lambda m, _: m.push(dict_of(_pairs(m.pop_to_mark()))),
    "SETITEM": lambda m, _: m.set_items(m.pop_last(2)),
    "SETITEMS": lambda m, _: m.set_items(m.pop_to_mark()),
    # names
    "GLOBAL": lambda m, names: m.push_name(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m.push_name(*m.pop_last(2)),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), lambda m, _: m.call()),
    "BUILD": lambda m, _: m.build(),
    "BINPERSID": lambda m, _: m.push_persistent(),
}


# The names by which pickles hold numpy's arrays and Paddle's tensors, and what they stand for.


def _dtype(code: str, *_: Any) -> Deferred:
    """Stand in for numpy.dtype(code, align, copy), whose state tells the byte order."""
    if not NUMBERS.fullmatch(code):
        raise ValueError(f"an array of {code!r}")
    dtype = np.dtype(code)

    def in_order(state: Any) -> np.dtype:
        return dtype.newbyteorder(state[1]) if state[1] in ("<", ">") else dtype

    return Deferred(in_order, dtype)


def _array(*_: Any) -> Deferred:
    """Stand in for numpy's `_reconstruct`, whose state is (version, shape, dtype, order, data)."""

    def filled(state: Tuple) -> np.ndarray:
        _, shape, dtype, fortran, data = state
        data = data.encode("latin1") if isinstance(data, str) else data
        return _from_buffer(data, dtype, shape, "F" if fortran else "C")

    return Deferred(filled)


def _from_buffer(
    data: Union[bytes, bytearray], dtype: Union[np.dtype, Deferred], shape: Tuple, order: str
) -> np.ndarray:
    """Make an array as protocol 5 writes it."""
    dtype = dtype.value if isinstance(dtype, Deferred) else dtype
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
    ("numpy", "ndarray"): lambda shape, code, data: _from_buffer(data, _dtype(code), shape, "C"),
    ("numpy", "dtype"): _dtype,
    ("collections", "OrderedDict"): dict_of,
    ("_codecs", "encode"): _encode,
    **{
        (f"{core}.{module}", name): function
        for core in ("numpy.core", "numpy._core")  # numpy 1 and numpy 2
        for module, name, function in (
            ("multiarray", "_reconstruct", _array),
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
