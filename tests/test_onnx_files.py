"""ONNX files: what is no exported network, or would harm, is one line that names the file."""

import os
import re

import numpy as np
import pytest

from SCFNet.backends import open_onnx, open_session, photo_shape, run_session
from SCFNet.errors import InputError

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

META = {"model_type": "M3_0.5", "size": "32", "weights_sha256": "0" * 64}
MEAN = helper.make_node("ReduceMean", ["image"], ["grey"], axes=[1], keepdims=1)
SIGMOID = helper.make_node("Sigmoid", ["grey"], ["saliency"])


def ints(name, values):
    return numpy_helper.from_array(np.array(values, "int64"), name)


def floats(name, values):
    return numpy_helper.from_array(np.array(values, "float32"), name)


def multiplied(*nodes):
    """A map that is the photo times one number, `factor`, which `nodes` make."""
    return [MEAN, *nodes, helper.make_node("Mul", ["grey", "factor"], ["saliency"])]


def mean_of(source):
    return helper.make_node("ReduceMean", [source], ["factor"], keepdims=0)


def write(path, nodes=(MEAN, SIGMOID), constants=(), **changes):
    """An exported network of the size 32, with `changes` to what it says about itself."""
    said = {"input": "image", "type": TensorProto.FLOAT, "shape": ["N", 3, 32, 32], "meta": META}
    said.update(changes)
    source = helper.make_tensor_value_info(said["input"], said["type"], said["shape"])
    target = helper.make_tensor_value_info("saliency", TensorProto.FLOAT, None)
    graph = helper.make_graph(list(nodes), "net", [source], [target], list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)])
    model.ir_version = 8
    helper.set_model_props(model, said["meta"])
    path.write_bytes(model.SerializeToString())
    return path


def fault_of(path, photos=2):
    """What the file is refused for, when it is opened or run."""
    with pytest.raises((InputError, MemoryError)) as caught:
        open_onnx(path).run(np.ones((photos, 3, 32, 32), "float32"))
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and message.isprintable()
    return message


def test_an_exported_network_runs(tmp_path):
    opened = open_onnx(write(tmp_path / "net.onnx"))
    assert (opened.size, opened.model_type) == (32, "M3_0.5")
    maps = opened.run(np.zeros((2, 3, 32, 32), "float32"))
    np.testing.assert_array_equal(maps, np.full((2, 32, 32), 0.5, "float32"))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"type": TensorProto.UINT8,
          "nodes": [helper.make_node("Cast", ["image"], ["x"], to=1),
                    helper.make_node("ReduceMean", ["x"], ["saliency"], axes=[1])]},
         r"input image is a tensor\(uint8\), not float32"),
        ({"input": "x", "nodes": [helper.make_node("Identity", ["x"], ["saliency"])]},
         "has no input image"),
        ({"shape": ["N", 3, 32]}, "has no input image of four dimensions"),
        ({"shape": None}, "has no input image of four dimensions"),
        ({"shape": [7, 3, 32, 32]}, "a fixed batch of 7"),
        ({"shape": ["N", 1, 32, 32]}, r"not \[N, 3, S, S\]"),
        ({"shape": ["N", 3, 32, 64]}, r"not \[N, 3, S, S\]"),
        ({"shape": ["N", 3, 64, 64]}, r"says size 32, but takes photos of .*64"),
        ({"meta": {**META, "size": "abc"}}, "says size abc, but takes photos of .*32"),
        ({"meta": {**META, "size": "-32"}}, "says size -32"),
        ({"meta": {**META, "size": "3\x1b[2"}}, r"says size 3\\x1b\[2"),
        *[({"meta": {**META, "mean": mean}}, "a mean and std that are not three numbers each")
          for mean in ("[1, 2]", "7", "")],
        ({"meta": {"size": "32"}}, r"not made by tools/export\.py"),
    ],
)  # fmt: skip
def test_files_that_say_something_else_are_refused(tmp_path, changes, fault):
    assert re.search(fault, fault_of(write(tmp_path / "net.onnx", **changes)))


@pytest.mark.parametrize(
    ("nodes", "constants", "fault"),
    [
        ([helper.make_node("Sigmoid", ["image"], ["saliency"])], [], r"is \[2, 3, 32, 32\]"),
        ([helper.make_node("ReduceMean", ["image"], ["saliency"], axes=[0, 1])], [],
         r"is \[1, 1, 32, 32\] for 2 photos, not a map each"),
        ([MEAN, helper.make_node("ArgMax", ["grey"], ["saliency"])], [], "Type Error"),
        (multiplied(), [floats("factor", np.nan)], "infinite or not a number"),
        (multiplied(), [floats("factor", np.inf)], "infinite or not a number"),
        (multiplied(), [floats("factor", 9)], "gives values from 9 to 9, not from 0 to 1"),
        (multiplied(), [floats("factor", -1)], "gives values from -1 to -1"),
        ([MEAN, helper.make_node("Reshape", ["grey", "shape"], ["saliency"])],
         [ints("shape", [1, 1, 7, 32])], "cannot run it .*requested shape"),
        (multiplied(helper.make_node("Expand", ["grey", "shape"], ["c"]), mean_of("c")),
         [ints("shape", [10**9, 1, 1, 1])], "not enough memory"),
        ([helper.make_node("NoSuch", ["image"], ["saliency"])], [], "not an ONNX file, or damaged"),
    ],
)  # fmt: skip
def test_networks_that_give_no_map_are_refused(tmp_path, nodes, constants, fault):
    assert re.search(fault, fault_of(write(tmp_path / "net.onnx", nodes, constants)))


def test_data_in_another_file_is_read(tmp_path):
    """As large networks have it: the numbers lie beside the graph."""
    factor = floats("factor", 0.25)
    (tmp_path / "net.data").write_bytes(factor.raw_data)
    factor.ClearField("raw_data")
    factor.data_location = TensorProto.EXTERNAL
    entry = factor.external_data.add()
    entry.key, entry.value = "location", "net.data"
    opened = open_onnx(write(tmp_path / "net.onnx", multiplied(), [factor]))
    assert (opened.run(np.ones((1, 3, 32, 32), "float32")) == 0.25).all()
    (tmp_path / "net.data").unlink()
    assert "not an ONNX file, or damaged" in fault_of(tmp_path / "net.onnx")


def test_a_batch_that_fails_runs_photo_by_photo(tmp_path):
    """As in files that say any batch, but reshape to one photo."""
    nodes = [MEAN, helper.make_node("Reshape", ["grey", "shape"], ["x"]),
             helper.make_node("Sigmoid", ["x"], ["saliency"])]  # fmt: skip
    opened = open_onnx(write(tmp_path / "net.onnx", nodes, [ints("shape", [1, 1, 32, 32])]))
    assert opened.run(np.zeros((3, 3, 32, 32), "float32")).shape == (3, 32, 32)


@pytest.mark.parametrize("said", [b"M3_0.5", b"image", b"saliency"])
def test_names_that_are_not_utf8_are_refused(tmp_path, said):
    path = write(tmp_path / "net.onnx")
    path.write_bytes(path.read_bytes().replace(said, said[:-1] + b"\xff"))
    assert "not an ONNX file, or damaged" in fault_of(path)


def test_what_is_no_onnx_file_is_refused_without_waiting(tmp_path):
    path = tmp_path / "net.onnx"
    for content in (b"", b"hello", b"8\x02", b"\x08\x08:\xff\xff\xff\xff\x0f", b"\xff" * 50):
        path.write_bytes(content)
        assert re.search("is empty|not an ONNX file, or damaged", fault_of(path))
    os.mkfifo(tmp_path / "pipe.onnx")
    assert fault_of(tmp_path / "pipe.onnx").endswith("is not a regular file")
    assert fault_of(tmp_path).endswith("is a folder")
    assert fault_of(tmp_path / "gone.onnx").endswith("does not exist")


@pytest.mark.parametrize("axes", [None, [0, 1, 2, 3], [0, 2, 3, 1]])
def test_maps_of_any_teacher_come_without_channels(tmp_path, axes):
    """[N, h, w], [N, 1, h, w] and [N, h, w, 1] alike."""
    nodes = [helper.make_node("ReduceMean", ["image"], ["saliency"], axes=[1], keepdims=0)]
    if axes:
        nodes = [MEAN, helper.make_node("Transpose", ["grey"], ["saliency"], perm=axes)]
    path = write(tmp_path / "net.onnx", nodes)
    session = open_session(path, threads=1)
    assert photo_shape(path, session)[1:] == [3, 32, 32]
    maps = run_session(path, session, np.ones((2, 3, 32, 32), "float32"), "saliency")
    np.testing.assert_array_equal(maps, np.ones((2, 32, 32), "float32"))


def test_damaged_files_never_raise_anything_else(tmp_path):
    rng = np.random.default_rng(5)
    whole = write(tmp_path / "net.onnx").read_bytes()
    for _ in range(60):
        content = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            content[rng.integers(len(content))] = rng.integers(256)
        path = tmp_path / "fuzzed.onnx"
        path.write_bytes(content[: rng.integers(len(content) // 2, len(content) + 1)])
        try:
            open_onnx(path).run(np.ones((1, 3, 32, 32), "float32"))
        except InputError as error:
            assert "fuzzed.onnx" in str(error) and str(error).isprintable()
