"""ONNX files in ONNX Runtime on the CPU: looked through first, bounded in memory, faults in a line.

A file may name other files, loop for ever or ask for any amount of memory. No network of this
field needs loops, local functions, sparse or external data: a file that has them is refused.
"""

import contextlib
import os
import re
import threading
import weakref
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Tuple

import numpy as np

from SCFNet.errors import InputError
from SCFNet.files import check_is_file
from SCFNet.formats.unpickle import printable

if TYPE_CHECKING:
    import onnxruntime

MAX_SIZE = (2 << 30) - 1  # bytes of a file; protocol buffers end there
MEMORY, MEMORY_PER_CORE = 1 << 30, 1 << 29  # bytes for what lies between a network's layers
FORBIDDEN = (b"Loop", b"Scan", b"SequenceMap")
PATIENCE = 60  # seconds for a photo
REASON = 120  # letters of ONNX Runtime's message
RANGE = (-0.001, 1.001)  # of saliency, with what a resize may add

# The messages of ONNX's format that are looked into: their fields by number, and what those are.
MESSAGES: Dict[str, Dict[int, str]] = {
    "model": {7: "graph", 25: "functions"},
    "graph": {1: "node", 5: "tensor", 15: "sparse data"},
    "node": {4: "operator", 5: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse data",
        23: "sparse data",
    },
    "tensor": {13: "data in another file", 14: "data location"},
}
FIXED = {1: 8, 5: 4}  # bytes of a number, by its type in a protocol buffer

# Sessions that ran in time once. They have no loops, so they do it again, and cost no timer.
_in_time: "weakref.WeakSet[onnxruntime.InferenceSession]" = weakref.WeakSet()


class FailedRun(Exception):
    """ONNX Runtime could not run a batch; the message says why."""


class NotAProtobuf(Exception):
    """Bytes that are no protocol buffer."""


def open_session(file: Path, threads: int) -> "onnxruntime.InferenceSession":
    """Open any ONNX file in ONNX Runtime on the CPU; 0 threads are as many as there are cores.

    Raises InputError if it cannot be read, or is nothing that ONNX Runtime can run.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(f"{file}: {error}; pip install onnxruntime") from error

    check_is_file(file)
    if file.stat().st_size > MAX_SIZE:
        raise InputError(f"{file}: refused, it is larger than 2 GB")
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from error
    _check_graph(file, data)
    _bound_memory()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    try:
        session = onnxruntime.InferenceSession(
            data,
            options,
            providers=["CPUExecutionProvider"],
            enable_fallback=0,  # which would print
        )
        for one in (*session.get_inputs(), *session.get_outputs()):
            str(one)  # decodes its name, here where text that is not UTF-8 is caught
        str(session.get_modelmeta().custom_metadata_map)
        return session
    except Exception as error:  # ONNX Runtime has an exception type per fault, and no base
        raise InputError(f"{file}: not an ONNX file, or damaged ({_reason(error)})") from error


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
        fault = f"{file}: {len(photos)} inputs of four dimensions in {shown}; "
        if not photos:
            raise InputError(f"{fault}it cannot be a teacher")
        raise InputError(f"{fault}choose one by --teacher-input-name")
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
    one too, takes longer than `PATIENCE`, or gives anything but a map of finite numbers for each.
    """
    takes_one = session.get_inputs()[0].shape[0] == 1
    try:
        parts = np.split(batch, len(batch)) if takes_one else [batch]
        found = [_run(file, session, part, output) for part in parts]
    except FailedRun as error:
        if takes_one or len(batch) == 1:
            raise InputError(f"{file}: ONNX Runtime cannot run it ({error})") from error
        found = [run_session(file, session, photo[None], output) for photo in batch]
    return np.concatenate(found)


def _run(
    file: Path, session: "onnxruntime.InferenceSession", batch: np.ndarray, output: str
) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.RunOptions()
    try:
        with contextlib.nullcontext() if session in _in_time else _time_limit(options, len(batch)):
            maps = session.run([output], {session.get_inputs()[0].name: batch}, options)[0]
    except Exception as error:
        if options.terminate:
            raise InputError(f"{file}: takes more than {PATIENCE} s for a photo") from error
        raise FailedRun(_reason(error)) from error
    _in_time.add(session)
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


@contextlib.contextmanager
def _time_limit(options: "onnxruntime.RunOptions", photos: int) -> Iterator[None]:
    """Terminate a run in the block that takes longer than `PATIENCE` for each of the photos."""
    timer = threading.Timer(PATIENCE * photos, setattr, (options, "terminate", True))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def check_saliency(file: Path, maps: np.ndarray) -> np.ndarray:
    """Return `maps`. Raises InputError unless they lie in [0, 1]."""
    low, high = maps.min(), maps.max()
    if not (low >= RANGE[0] and high <= RANGE[1]):
        raise InputError(f"{file}: gives values from {low:.4g} to {high:.4g}, not from 0 to 1")
    return maps


@lru_cache(maxsize=None)
def _bound_memory() -> None:
    """Give all sessions of this process one allocator, which fails beyond its limit."""
    import onnxruntime

    limit = MEMORY + MEMORY_PER_CORE * (os.cpu_count() or 1)
    info = onnxruntime.OrtMemoryInfo(
        "Cpu",
        onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR,
        0,
        onnxruntime.OrtMemType.DEFAULT,
    )
    onnxruntime.create_and_register_allocator(info, onnxruntime.OrtArenaCfg({"max_mem": limit}))


def _reason(error: Exception) -> str:
    """ONNX Runtime's message without its code; the end of a long one says the fault."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", " ".join(str(error).split()))
    return printable(text if len(text) < REASON else f"... {text[-REASON:]}", 2 * REASON)


def _check_graph(file: Path, data: bytes) -> None:
    """Refuse what may run for ever, grow without bound, or read other files."""
    todo = [("model", 0, len(data))]
    try:
        while todo:
            message, begin, end = todo.pop()
            known = MESSAGES[message]
            for number, value, begins in _fields(data, begin, end):
                kind = known.get(number)
                if kind is None:
                    continue
                if kind in MESSAGES:
                    if not begins:  # an integer in its place
                        raise NotAProtobuf
                    todo.append((kind, begins, value))
                elif kind == "operator":
                    if data[begins:value] in FORBIDDEN:
                        raise InputError(f"{file}: refused, it has a {data[begins:value].decode()}")
                elif value:  # a location of 0 is this file
                    raise InputError(f"{file}: refused, it has {kind}")
    except (IndexError, NotAProtobuf) as error:
        raise InputError(f"{file}: not an ONNX file, or damaged") from error


def _fields(data: bytes, at: int, end: int) -> Iterator[Tuple[int, int, int]]:
    """Read the fields of the protocol buffer data[at:end]: (number, value, 0) for an integer and
    (number, end, begin) for bytes. Fields of other types are passed over.
    """
    while at < end:
        key, at = _varint(data, at)
        number, wire = (key & 0xFFFFFFFF) >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value, 0
        elif wire == 2:
            size, at = _varint(data, at)
            yield number, at + size, at
            at += size
        elif wire in FIXED:
            at += FIXED[wire]
        else:
            raise NotAProtobuf
    if at > end:
        raise NotAProtobuf


def _varint(data: bytes, at: int) -> Tuple[int, int]:
    """Read the number at `at`, seven bits a byte, and find its end."""
    value = data[at]
    if value < 128:
        return value, at + 1
    value &= 127
    for shift in range(7, 64, 7):
        at += 1
        value |= (data[at] & 127) << shift
        if data[at] < 128:
            return value, at + 1
    raise NotAProtobuf
