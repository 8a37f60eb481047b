"""PyTorch's files: archives and legacy ones load without PyTorch, what is in them never runs."""

import pickle
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from SCFNet.checkpoint import CheckpointError, load_checkpoint
from tests.conftest import assert_same, write_pickle
from tests.test_hostile_checkpoints import name, text

STORAGES = {"float32": "Float", "float64": "Double", "float16": "Half", "int64": "Long",
            "uint8": "Byte", "bool": "Bool"}  # fmt: skip
MAGIC = 0x1950A86A20F9469CFC6C
W = np.arange(6, dtype="float32").reshape(2, 3)


# Pickles are spelled here opcode by opcode, as PyTorch, which is not installed, writes them.


def number(value):
    return b"J" + struct.pack("<i", value)


def sequence(*items):
    return b"(" + b"".join(items) + b"t"


def tensor(key, shape, strides, begin=0, storage="Float", length=None, view=None):
    """A tensor in the storage `key` of `length` values; `view` is what legacy files add."""
    length = int(np.prod(shape)) if length is None else length
    parts = text(b"storage"), name("torch", f"{storage}Storage"), text(key.encode()), text(b"cpu")
    persistent = [*parts, number(length), *([] if view is None else [view])]
    arguments = sequence(
        sequence(*persistent) + b"Q",
        number(begin),
        sequence(*map(number, shape)),
        sequence(*map(number, strides)),
        b"\x89",
        name("collections", "OrderedDict") + b")R",
    )
    return name("torch._utils", "_rebuild_tensor_v2") + arguments + b"R"


def pickled(tensors):
    """{key: the opcodes of its value} as an OrderedDict with PyTorch's `_metadata`."""
    items = b"".join(text(key.encode()) + value for key, value in tensors.items())
    return (b"\x80\x02" + name("collections", "OrderedDict") + b")R(" + items + b"u"
            + b"}" + text(b"_metadata") + b"}sb.")  # fmt: skip


def write_archive(path, data, storages, extra=()):
    members = {"data.pkl": data, **{f"data/{k}": v for k, v in storages.items()}, **dict(extra)}
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(f"net/{member}", content)
    return path


def write_legacy(path, data, storages, lengths):
    header = [MAGIC, 1001, {"protocol_version": 1001, "little_endian": True}]
    parts = [pickle.dumps(value, 2) for value in header] + [data, pickle.dumps(list(storages), 2)]
    parts += [struct.pack("<q", lengths[key]) + storages[key] for key in storages]
    path.write_bytes(b"".join(parts))
    return path


def write(path, arrays, kind):
    """A file of `kind` with these arrays, a storage each."""
    tensors, raw, lengths = {}, {}, {}
    for i, (key, a) in enumerate(arrays.items()):
        strides, storage = [step // a.itemsize for step in a.strides], STORAGES[str(a.dtype)]
        view = b"N" if kind == "legacy" else None
        tensors[key] = tensor(str(i), a.shape, strides, storage=storage, view=view)
        raw[str(i)], lengths[str(i)] = a.tobytes(), a.size
    if kind == "archive":
        return write_archive(path, pickled(tensors), raw)
    return write_legacy(path, pickled(tensors), raw, lengths)


both = pytest.mark.parametrize("kind", ["archive", "legacy"])


@both
def test_types_shapes_and_order_survive(tmp_path, kind):
    arrays = {"none": np.zeros((0, 3), "float32"), "scalar": np.ones((), "int64")}
    arrays.update({dtype: W.astype(dtype) for dtype in STORAGES if dtype != "float16"})
    assert_same(load_checkpoint(write(tmp_path / "net.pth", arrays, kind)), arrays)
    half = write(tmp_path / "half.pth", {"w": W.astype("float16")}, kind)
    assert_same(load_checkpoint(half), {"w": W})


def test_bfloat16_becomes_float32(tmp_path):
    data = pickled({"w": tensor("0", (2, 3), (3, 1), storage="BFloat16")})
    raw = (W.view("uint32") >> 16).astype("<u2").tobytes()
    assert_same(load_checkpoint(write_archive(tmp_path / "net.pth", data, {"0": raw})), {"w": W})


@both
def test_keys_get_paddles_names(tmp_path, kind):
    names = "weight", "running_mean", "running_var", "num_batches_tracked"
    arrays = {f"module.bn.{one}": W + i for i, one in enumerate(names)}
    found = load_checkpoint(write(tmp_path / "net.pth", arrays, kind))
    assert_same(found, {"bn.weight": W, "bn._mean": W + 1, "bn._variance": W + 2})


def test_a_byte_order_is_followed(tmp_path):
    data = pickled({"w": tensor("0", (2, 3), (3, 1))})
    for order, code in (("big", ">f4"), ("little", "<f4")):
        raw = {"0": W.astype(code).tobytes()}
        path = write_archive(tmp_path / "net.pth", data, raw, [("byteorder", order)])
        np.testing.assert_array_equal(load_checkpoint(path)["w"], W)


def test_tensors_share_and_stride_a_storage(tmp_path):
    views = {
        "transposed": (tensor("0", (3, 2), (1, 3), length=6), W.T),
        "row": (tensor("0", (3,), (1,), begin=3, length=6), W[1]),
        "column": (tensor("0", (2,), (3,), begin=1, length=6), W[:, 1]),
    }
    data = pickled({key: opcodes for key, (opcodes, _) in views.items()})
    found = load_checkpoint(write_archive(tmp_path / "net.pth", data, {"0": W.tobytes()}))
    assert_same(found, {key: array for key, (_, array) in views.items()})


def test_a_legacy_view_of_a_storage_is_cut_out(tmp_path):
    view = sequence(text(b"v"), number(2), number(3))
    data = pickled({"w": tensor("0", (3,), (1,), length=6, view=view)})
    path = write_legacy(tmp_path / "net.pth", data, {"0": W.tobytes()}, {"0": 6})
    np.testing.assert_array_equal(load_checkpoint(path)["w"], [2, 3, 4])


@both
def test_code_is_refused_and_nothing_runs(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    evil = name("os", "system") + text(b"touch PWNED") + b"\x85R"
    view = b"N" if kind == "legacy" else None
    data = pickled({"w": tensor("0", (6,), (1,), view=view), "z": evil})
    write_file, more = (write_archive, ()) if kind == "archive" else (write_legacy, {"0": 6})
    path = write_file(tmp_path / "net.pth", data, {"0": W.tobytes()}, more)
    with pytest.raises(CheckpointError, match=r"net\.pth: refused, .* would run os\.system"):
        load_checkpoint(path)
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"begin": 1},  # beyond the end
        {"shape": (2**31 - 1, 1)},
        {"strides": (-3, 1)},
        {"strides": (1,)},
        {"length": 7},  # the storage has six
        {"length": 2**31 - 1},
        {"key": "1"},
        {"key": "../data.pkl"},
        {"storage": "Double"},
    ],
)
def test_tensors_beyond_their_storage_are_refused(tmp_path, wrong):
    arguments = {"key": "0", "shape": (2, 3), "strides": (3, 1), **wrong}
    raw, path = {"0": W.tobytes()}, tmp_path / "net.pth"
    for write_file, view, more in ((write_archive, None, ()), (write_legacy, b"N", {"0": 6})):
        write_file(path, pickled({"w": tensor(**arguments, view=view)}), raw, more)
        with pytest.raises(CheckpointError, match=r"net\.pth: not a checkpoint, or damaged"):
            load_checkpoint(path)


def test_archives_that_unpack_to_much_or_are_of_something_else_are_refused(tmp_path):
    path = tmp_path / "net.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data.pkl", pickled({"w": tensor("0", (10**7,), (1,))}))
        archive.writestr("net/data/0", bytes(4 * 10**7))
    np.savez(tmp_path / "w.npz", w=W)
    for file, fault in ((path, r"unpacks to 40000\d+"), (tmp_path / "w.npz", r"of 0 data\.pkl")):
        with pytest.raises(CheckpointError, match=fault):
            load_checkpoint(file)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_files_never_raise_anything_else(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    kind = data.draw(st.sampled_from(["pickle", "archive", "legacy"]))
    arrays = {"a.weight": W, "b": W[0].astype("float16"), "c": np.array(3)}
    if kind == "pickle":
        write_pickle(folder / "whole.pth", arrays, data.draw(st.sampled_from([2, 4])))
    else:
        write(folder / "whole.pth", arrays, kind)
    content = bytearray((folder / "whole.pth").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = folder / "fuzzed.pth"
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        assert load_checkpoint(path)
    except CheckpointError as error:
        assert "fuzzed.pth" in str(error) and str(error).isprintable()
