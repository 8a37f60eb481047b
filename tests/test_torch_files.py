"""PyTorch's files: archives and legacy ones load without PyTorch, what is in them never runs."""

import pickle
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from SCFNet.checkpoint import CheckpointError, load_checkpoint
from tests.conftest import write_pickle

STORAGES = {"float32": "Float", "float64": "Double", "float16": "Half", "int64": "Long",
            "uint8": "Byte", "bool": "Bool"}  # fmt: skip
MAGIC = 0x1950A86A20F9469CFC6C
W = np.arange(6, dtype="float32").reshape(2, 3)


# Pickles are spelled here opcode by opcode, as PyTorch, which is not installed, writes them.


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value):
    return b"J" + struct.pack("<i", value)


def sequence(*items):
    return b"(" + b"".join(items) + b"t"


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def tensor(key, shape, strides, begin=0, storage="Float", length=None, view=None):
    """A tensor in the storage `key` of `length` values; `view` is what legacy files add."""
    length = int(np.prod(shape)) if length is None else length
    persistent = [text("storage"), name("torch", f"{storage}Storage"), text(key), text("cpu"),
                  number(length)]  # fmt: skip
    if view is not None:
        persistent.append(view)
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
    items = b"".join(text(key) + value for key, value in tensors.items())
    return (b"\x80\x02" + name("collections", "OrderedDict") + b")R(" + items + b"u"
            + b"}" + text("_metadata") + b"}sb.")  # fmt: skip


def of_arrays(arrays, legacy):
    view = b"N" if legacy else None
    return pickled(
        {
            key: tensor(str(i), a.shape, [s // a.itemsize for s in a.strides],
                        storage=STORAGES[str(a.dtype)], view=view)
            for i, (key, a) in enumerate(arrays.items())
        }
    )  # fmt: skip


def write_archive(path, data, storages, extra=()):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", data)
        for key, content in storages.items():
            archive.writestr(f"net/data/{key}", content)
        for member, content in extra:
            archive.writestr(f"net/{member}", content)
    return path


def write_legacy(path, data, storages, lengths):
    parts = [pickle.dumps(MAGIC, 2), pickle.dumps(1001, 2)]
    parts.append(pickle.dumps({"protocol_version": 1001, "little_endian": True}, 2))
    parts += [data, pickle.dumps(list(storages), 2)]
    parts += [struct.pack("<q", lengths[key]) + storages[key] for key in storages]
    path.write_bytes(b"".join(parts))
    return path


def write(path, arrays, kind):
    raw = {str(i): a.tobytes() for i, a in enumerate(arrays.values())}
    data = of_arrays(arrays, kind == "legacy")
    if kind == "archive":
        return write_archive(path, data, raw)
    lengths = {str(i): a.size for i, a in enumerate(arrays.values())}
    return write_legacy(path, data, raw, lengths)


both = pytest.mark.parametrize("kind", ["archive", "legacy"])


@both
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8", "bool"])
def test_types_and_shapes_survive(tmp_path, kind, dtype):
    arrays = {
        "a.weight": W.astype(dtype),
        "a.bias": np.ones((), dtype),
        "none": np.zeros((0, 3), dtype),
    }
    found = load_checkpoint(write(tmp_path / "net.pth", arrays, kind))
    assert list(found) == list(arrays)
    for key, array in arrays.items():
        assert found[key].dtype == array.dtype and found[key].shape == array.shape
        np.testing.assert_array_equal(found[key], array)


@both
def test_half_precision_becomes_float32(tmp_path, kind):
    found = load_checkpoint(write(tmp_path / "net.pth", {"w": W.astype("float16")}, kind))
    assert found["w"].dtype == np.float32
    np.testing.assert_array_equal(found["w"], W)


def test_bfloat16_becomes_float32(tmp_path):
    data = pickled({"w": tensor("0", (2, 3), (3, 1), storage="BFloat16")})
    raw = (W.view("uint32") >> 16).astype("<u2").tobytes()
    found = load_checkpoint(write_archive(tmp_path / "net.pth", data, {"0": raw}))
    assert found["w"].dtype == np.float32
    np.testing.assert_array_equal(found["w"], W)


@both
def test_keys_get_paddles_names(tmp_path, kind):
    arrays = {
        "module.bn.weight": W[0],
        "module.bn.running_mean": W[0],
        "module.bn.running_var": W[1],
        "module.bn.num_batches_tracked": np.array(7),
    }
    found = load_checkpoint(write(tmp_path / "net.pth", arrays, kind))
    assert list(found) == ["bn.weight", "bn._mean", "bn._variance"]
    np.testing.assert_array_equal(found["bn._variance"], W[1])


def test_a_byte_order_is_followed(tmp_path):
    data = pickled({"w": tensor("0", (2, 3), (3, 1))})
    for order, code in (("big", ">f4"), ("little", "<f4")):
        raw = {"0": W.astype(code).tobytes()}
        path = write_archive(tmp_path / "net.pth", data, raw, [("byteorder", order)])
        np.testing.assert_array_equal(load_checkpoint(path)["w"], W)


def test_tensors_share_and_stride_a_storage(tmp_path):
    data = pickled(
        {
            "transposed": tensor("0", (3, 2), (1, 3), length=6),
            "row": tensor("0", (3,), (1,), begin=3, length=6),
            "column": tensor("0", (2,), (3,), begin=1, length=6),
        }
    )
    found = load_checkpoint(write_archive(tmp_path / "net.pth", data, {"0": W.tobytes()}))
    np.testing.assert_array_equal(found["transposed"], W.T)
    np.testing.assert_array_equal(found["row"], W[1])
    np.testing.assert_array_equal(found["column"], W[:, 1])


def test_a_legacy_view_of_a_storage_is_cut_out(tmp_path):
    view = sequence(text("v"), number(2), number(3))
    data = pickled({"w": tensor("0", (3,), (1,), length=6, view=view)})
    path = write_legacy(tmp_path / "net.pth", data, {"0": W.tobytes()}, {"0": 6})
    np.testing.assert_array_equal(load_checkpoint(path)["w"], [2, 3, 4])


@both
def test_code_is_refused_and_nothing_runs(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    evil = name("os", "system") + text("touch PWNED") + b"\x85R"
    data = pickled({"w": tensor("0", (6,), (1,), view=b"N" if kind == "legacy" else None),
                    "z": evil})  # fmt: skip
    if kind == "archive":
        path = write_archive(tmp_path / "net.pth", data, {"0": W.tobytes()})
    else:
        path = write_legacy(tmp_path / "net.pth", data, {"0": W.tobytes()}, {"0": 6})
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
    raw = {"0": W.tobytes()}
    path = write_archive(tmp_path / "net.pth", pickled({"w": tensor(**arguments)}), raw)
    with pytest.raises(CheckpointError, match=r"net\.pth: not a checkpoint, or damaged"):
        load_checkpoint(path)
    data = pickled({"w": tensor(**arguments, view=b"N")})
    write_legacy(path, data, raw, {"0": 6})
    with pytest.raises(CheckpointError, match=r"net\.pth: not a checkpoint, or damaged"):
        load_checkpoint(path)


def test_archives_of_something_else_are_named(tmp_path):
    np.savez(tmp_path / "net.pth.npz", w=W)
    with pytest.raises(CheckpointError, match=r"an archive of 0 data\.pkl"):
        load_checkpoint(tmp_path / "net.pth.npz")


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
