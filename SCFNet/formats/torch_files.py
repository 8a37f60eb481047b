"""PyTorch's files, zip archives (since 1.6) and legacy ones, read without PyTorch.

Either is a pickle in which a tensor is a place in a storage, and the storages' raw bytes. A legacy
file is a row of pickles (a magic number, the version, the machine, the value, the names of the
storages), then each storage: its length, its bytes, little-endian on any machine. An archive holds
`data.pkl`, a member `data/NAME` for each storage, and maybe their `byteorder`.
"""

import io
import os
from typing import Any, BinaryIO, Callable, Dict, Tuple

import numpy as np

from SCFNet.formats.unpickle import ARRAY_NAMES, COPIES, SLACK, Refused, dict_of, tuple_of, unpickle

LEGACY_MAGIC = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")
ZIP_START = b"PK\x03\x04"

STORAGES = {  # type codes of what is stored
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "b1",
}
DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8")


def read_weights(stream: BinaryIO) -> Any:
    """Return what `torch.save` wrote, with arrays for tensors, half precision as float32; of a
    stream that is no file of PyTorch's the value of its pickle.

    Raises `unpickle.Refused` for code, and for what needs much more memory than the file's size,
    and any other exception for a damaged file.
    """
    start = stream.read(32)
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    if start.startswith(ZIP_START):
        return _read_archive(stream, size)
    return _read_legacy(stream, size) if LEGACY_MAGIC in start else unpickle(stream)


def _read_archive(stream: BinaryIO, size: int) -> Any:
    import zipfile  # few files need it

    with zipfile.ZipFile(stream) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > COPIES * size + SLACK:
            raise Refused(f"an archive of {size} bytes that unpacks to {unpacked}")
        members = archive.namelist()
        pickles = [name for name in members if name.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1:
            raise Refused(f"an archive of {len(pickles)} data.pkl, not of one")
        root = pickles[0][: -len("data.pkl")]
        is_big = root + "byteorder" in members and archive.read(root + "byteorder") == b"big"

        def read(code: str, name: str, length: int) -> np.ndarray:
            values = _values(code, archive.read(f"{root}data/{name}"), ">" if is_big else "<")
            if len(values) != length:
                raise ValueError(f"storage {name} is of another size than its tensors")
            return values

        data = io.BytesIO(archive.read(pickles[0]))
        return unpickle(data, TORCH_NAMES, _storage_finder(read), beside=unpacked)


def _read_legacy(stream: BinaryIO, size: int) -> Any:
    for _ in ("magic number", "version", "machine"):
        unpickle(stream, {})
    made: Dict[str, Tuple[str, np.ndarray]] = {}

    def make(code: str, name: str, length: int) -> np.ndarray:
        if length > size:
            raise ValueError("a storage larger than the file")
        made[name] = code, np.empty(length, _values(code, b"", "<").dtype)  # filled below
        return made[name][1]

    value = unpickle(stream, TORCH_NAMES, _storage_finder(make))
    for name in unpickle(stream, {}):
        code, values = made.pop(name)
        if int.from_bytes(stream.read(8), "little") != len(values):
            raise ValueError(f"storage {name} is of another size than its tensors")
        width = 2 if code == "bfloat16" else np.dtype(code).itemsize
        values[:] = _values(code, stream.read(len(values) * width), "<")
    if made:
        raise ValueError("tensors without storages")
    return value


def _values(code: str, data: bytes, order: str) -> np.ndarray:
    """Return the numbers of a type of STORAGES in `data`, of the byte order '<' or '>'."""
    if code == "bfloat16":
        return from_bfloat16(np.frombuffer(data, order + "u2"))
    return np.frombuffer(data, order + code).astype("f4" if code == "f2" else code)


def from_bfloat16(raw: np.ndarray) -> np.ndarray:
    """Return bfloat16 values, which numpy lacks and which are held as uint16, as float32."""
    return (raw.astype("u4") << 16).view("f4")


def _storage_finder(make: Callable[[str, str, int], np.ndarray]) -> Callable[[Tuple], np.ndarray]:
    """Return a function from persistent ids to storages, made once by `make(type, name, length)`.

    An id is ('storage', type, name, device, length), in legacy files followed by None or by
    (name, begin, length), a part of the storage.
    """
    found: Dict[str, np.ndarray] = {}

    def find(persistent_id: Tuple) -> np.ndarray:
        _, code, name, _, length, *view = persistent_id
        if code not in STORAGES.values():
            raise ValueError("not a storage")
        if name not in found:
            found[name] = make(code, name, length)
        if len(found[name]) != length:
            raise ValueError("one storage of two sizes")
        if not view or view[0] is None:
            return found[name]
        _, begin, count = view[0]
        return found[name][begin : begin + count]

    return find


def _rebuild_tensor(
    values: np.ndarray, begin: int, shape: Tuple, strides: Tuple, *_: Any
) -> np.ndarray:
    """Cut the tensor of `shape` out of its storage at `begin`; strides are in values, not bytes.

    numpy raises for a tensor that reaches beyond its storage.
    """
    steps = [stride * values.itemsize for stride in strides]
    return np.ndarray(shape, values.dtype, values.data, begin * values.itemsize, steps)


TORCH_NAMES = {
    **ARRAY_NAMES,
    ("collections", "Counter"): dict_of,  # of a schedule's milestones
    ("torch", "Size"): tuple_of,
    ("torch", "device"): lambda *_: None,
    **{("torch", dtype): None for dtype in DTYPES},
    **{
        (module, name): code
        for module in ("torch", "torch.cuda")
        for name, code in STORAGES.items()
    },
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
    ("torch._utils", "_rebuild_parameter_with_state"): lambda data, *_: data,
}
