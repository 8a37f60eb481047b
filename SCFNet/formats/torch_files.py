"""PyTorch's files, zip archives (since 1.6) and legacy ones, read without PyTorch.

Either is a pickle in which a tensor is a place in a storage, and the storages' raw bytes. A legacy
file is a row of pickles (a magic number, the version, the machine, the value, the names of the
storages), then each storage: its length, its bytes, little-endian on any machine. An archive holds
`data.pkl`, a member `data/NAME` for each storage, and maybe their `byteorder`.
"""

import io
from typing import Any, BinaryIO, Callable, Dict, Tuple

import numpy as np

from SCFNet.formats.arrays import ARRAY_NAMES, dict_of, from_bfloat16, tuple_of
from SCFNet.formats.unpickle import COPIES, SLACK, Refused, unpickle

LEGACY_MAGIC = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")
ZIP_START = b"PK\x03\x04"
PACKINGS = (0, 8)  # of an archive's members: stored, deflated
MAX_MEMBERS = 50_000  # of an archive: every tensor is one
MEMBER_START = b"PK\x01\x02"  # of an entry in an archive's list

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


class Storage:
    """One-dimensional `values` of a type of `STORAGES`, filled when its bytes are reached.

    The half-precision types are kept as float32.
    """

    def __init__(self, code: str, length: int) -> None:
        self.code, self.length = code, length
        self.raw = np.dtype("u2" if code == "bfloat16" else code)
        self.nbytes = length * self.raw.itemsize  # in the file
        self.values = np.empty(length, "f4" if code in ("f2", "bfloat16") else self.raw)

    def fill(self, data: bytes, big_endian: bool = False) -> None:
        """Take the values from `data`."""
        raw = np.frombuffer(data, self.raw.newbyteorder(">" if big_endian else "<"))
        self.values[:] = from_bfloat16(raw) if self.code == "bfloat16" else raw


def is_torch_file(stream: BinaryIO) -> bool:
    """Tell whether a stream at its start is one of PyTorch's, or some other archive."""
    start = stream.read(32)
    stream.seek(0)
    return start.startswith(ZIP_START) or LEGACY_MAGIC in start


def read_torch(stream: BinaryIO) -> Any:
    """Read what `torch.save` wrote, with numpy arrays for tensors.

    Raises `unpickle.Refused` for code, and for what needs much more memory than the file's size,
    and any other exception for a damaged file.
    """
    is_zip = stream.read(len(ZIP_START)) == ZIP_START
    stream.seek(0)
    return _read_archive(stream) if is_zip else _read_legacy(stream)


def _read_archive(stream: BinaryIO) -> Any:
    import zipfile  # few files need it

    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    members = sum(chunk.count(MEMBER_START) for chunk in iter(lambda: stream.read(1 << 20), b""))
    if members > MAX_MEMBERS:
        raise Refused(f"an archive of {members} files")
    with zipfile.ZipFile(stream) as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
        if any(entry.compress_type not in PACKINGS for entry in archive.infolist()):
            raise Refused("an archive with an uncommon compression")
        unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > COPIES * size + SLACK:
            raise Refused(f"an archive of {size} bytes that unpacks to {unpacked}")
        pickles = [name for name in sizes if name.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1:
            raise Refused(f"an archive of {len(pickles)} data.pkl, not of one")
        root = pickles[0][: -len("data.pkl")]
        big = root + "byteorder" in sizes and archive.read(root + "byteorder") == b"big"

        def read(storage: Storage, key: str) -> None:
            name = f"{root}data/{key}"
            if sizes[name] != storage.nbytes:
                raise ValueError(f"{name} is of another size than its tensors")
            storage.fill(archive.read(name), big)

        storages = _Storages(unpacked, read)
        data = io.BytesIO(archive.read(pickles[0]))
        return unpickle(data, TORCH_NAMES, storages.find, beside=unpacked)


def _read_legacy(stream: BinaryIO) -> Any:
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    for _ in ("magic", "version", "machine"):
        unpickle(stream, {})
    storages = _Storages(size, lambda storage, name: None)  # their bytes come last
    value = unpickle(stream, TORCH_NAMES, storages.find)
    names = unpickle(stream, {})
    if sorted(names) != sorted(storages.found):
        raise ValueError("storages without tensors, or tensors without storages")
    for name in names:
        storage = storages.found[name]
        if int.from_bytes(stream.read(8), "little") != storage.length:
            raise ValueError(f"storage {name} is of another size than its tensors")
        storage.fill(stream.read(storage.nbytes))
    return value


class _Storages:
    """The storages of a file by name, each made, and `read`, where it is first referred to.

    Together they have at most `budget` bytes.
    """

    def __init__(self, budget: int, read: Callable[[Storage, str], None]) -> None:
        self.budget, self.read = budget, read
        self.found: Dict[str, Storage] = {}

    def find(self, persistent_id: Tuple) -> np.ndarray:
        """Find the values of the id ('storage', type, name, device, length), in legacy files
        followed by None or (name, begin, length) of a part of the storage.
        """
        kind, code, name, _, length, *view = persistent_id
        if kind != "storage" or code not in STORAGES.values() or type(name) is not str:
            raise ValueError("not a storage")
        if name not in self.found:
            storage = Storage(code, _natural(length))
            self.budget -= storage.nbytes
            if self.budget < 0:
                raise ValueError("storages larger than the file")
            self.read(storage, name)
            self.found[name] = storage
        storage = self.found[name]
        if (code, length) != (storage.code, storage.length):
            raise ValueError("one storage of two types")
        if not view or view[0] is None:
            return storage.values
        _, begin, count = view[0]
        return storage.values[_natural(begin) :][: _natural(count)]


def _natural(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no size")
    return value


def _rebuild_tensor(
    values: np.ndarray, begin: int, shape: Tuple, strides: Tuple, *_: Any
) -> np.ndarray:
    """Cut the tensor of `shape` out of its storage at `begin`; strides are in values, not bytes."""
    if values.ndim != 1 or not values.flags.c_contiguous or len(shape) != len(strides):
        raise ValueError("not a storage, or a shape without strides")
    count, last = 1, _natural(begin)
    for size, stride in zip(shape, strides):
        count *= _natural(size)
        last += (size - 1) * _natural(stride)
    if count == 0:
        return np.empty(shape, values.dtype)
    if last >= len(values) or count > len(values):
        raise ValueError("a tensor beyond its storage")
    steps = [stride * values.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(values[begin:], shape, steps)


def _torch_names() -> Dict[Tuple[str, str], Any]:
    names = dict(ARRAY_NAMES)
    names["collections", "Counter"] = dict_of  # of a schedule's milestones
    names["torch", "Size"] = tuple_of
    names["torch", "device"] = lambda *_: None
    for dtype in DTYPES:
        names["torch", dtype] = None
    for name, code in STORAGES.items():
        names["torch", name] = names["torch.cuda", name] = code
    names["torch._utils", "_rebuild_tensor"] = _rebuild_tensor
    names["torch._utils", "_rebuild_tensor_v2"] = _rebuild_tensor
    names["torch._utils", "_rebuild_parameter"] = lambda data, *_: data
    names["torch._utils", "_rebuild_parameter_with_state"] = lambda data, *_: data
    return names


TORCH_NAMES = _torch_names()
