"""ONNX files: what is no exported network, or would harm, is one line that names the file."""

import os
import re

import numpy as np
import pytest

from SCFNet.backends import open_onnx, open_session, photo_shape, run_session
from SCFNet.errors import InputError
from tests.conftest import onnx_model

onnx = pytest.importorskip("onnx")

SAID = {"model_type": "M3_0.5", "size": "32", "weights_sha256": "0" * 64}
MEAN = "grey = ReduceMean <axes = [1]> (image)"
SIGMOID = f"{{{MEAN} saliency = Sigmoid (grey)}}"
RESHAPE = f"<int64[4] shape = {{1, 1, %d, 32}}> {{{MEAN} x = Reshape (grey, shape) %s}}"


def write(path, nodes=SIGMOID, source="float[N,3,32,32] image", **said):
    """An exported network of the size 32."""
    said = {key: value for key, value in {**SAID, **said}.items() if value is not None}
    path.write_bytes(onnx_model(nodes, source, **said).SerializeToString())
    return path


def times(number):
    """A map that is the photo times one number."""
    return f"<float factor = {{{number}}}> {{{MEAN} saliency = Mul (grey, factor)}}"


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
    ("source", "said", "fault"),
    [
        ("uint8[N,3,32,32] image", {}, r"input image is a tensor\(uint8\), not float32"),
        ("float[N,3,32,32] x", {}, "has no input image"),
        ("float[N,3,32] image", {}, "has no input image of four dimensions"),
        ("float[] image", {}, "has no input image of four dimensions"),
        ("float[7,3,32,32] image", {}, "a fixed batch of 7"),
        ("float[N,1,32,32] image", {}, r"not \[N, 3, S, S\]"),
        ("float[N,3,32,64] image", {}, r"not \[N, 3, S, S\]"),
        ("float[N,3,64,64] image", {}, r"says size 32, but takes photos of .*64"),
        ("", {"size": "abc"}, "says size abc, but takes photos of .*32"),
        ("", {"size": "-32"}, "says size -32"),
        ("", {"size": "3\x1b[2"}, r"says size 3\\x1b\[2"),
        *[
            ("", {"mean": mean}, "a mean and std that are not three numbers each")
            for mean in ("[1, 2]", "7", "")
        ],
        ("", {"model_type": None}, r"not made by tools/export\.py"),
    ],
)
def test_files_that_say_something_else_are_refused(tmp_path, source, said, fault):
    name = source.split()[-1] if source else "image"
    nodes = f"{{x32 = Cast <to = 1> ({name}) saliency = ReduceMean <axes = [1]> (x32)}}"
    path = write(tmp_path / "net.onnx", nodes, source or "float[N,3,32,32] image", **said)
    assert re.search(fault, fault_of(path))


@pytest.mark.parametrize(
    ("nodes", "fault"),
    [
        ("{saliency = Sigmoid (image)}", r"is \[2, 3, 32, 32\]"),
        (
            "{saliency = ReduceMean <axes = [0, 1]> (image)}",
            r"is \[1, 1, 32, 32\] for 2 photos, not a map each",
        ),
        (f"{{{MEAN} saliency = ArgMax (grey)}}", "Type Error"),
        (times("nan"), "infinite or not a number"),
        (times("inf"), "infinite or not a number"),
        (times(9), "gives values from 9 to 9, not from 0 to 1"),
        (times(-1), "gives values from -1 to -1"),
        (RESHAPE % (7, "saliency = Sigmoid (x)"), "cannot run it .*requested shape"),
        (
            f"<int64[4] s = {{1000000000, 1, 1, 1}}> {{{MEAN} saliency = Expand (grey, s)}}",
            "not enough memory",
        ),
        ("{saliency = NoSuch (image)}", "not an ONNX file, or damaged"),
    ],
)
def test_networks_that_give_no_map_are_refused(tmp_path, nodes, fault):
    assert re.search(fault, fault_of(write(tmp_path / "net.onnx", nodes)))


def test_data_in_another_file_is_read(tmp_path):
    """As large networks have it: the numbers lie beside the graph."""
    path = write(tmp_path / "net.onnx", times(0.25))
    model = onnx.load(str(path))
    raw = onnx.numpy_helper.from_array(np.array(0.25, "float32"), "factor")
    model.graph.initializer[0].CopyFrom(raw)
    options = {"save_as_external_data": True, "location": "net.data", "size_threshold": 0}
    onnx.save(model, str(path), **options)
    assert (open_onnx(path).run(np.ones((1, 3, 32, 32), "float32")) == 0.25).all()
    (tmp_path / "net.data").unlink()
    assert "not an ONNX file, or damaged" in fault_of(path)


def test_a_batch_that_fails_runs_photo_by_photo(tmp_path):
    """As in files that say any batch, but reshape to one photo."""
    opened = open_onnx(write(tmp_path / "net.onnx", RESHAPE % (32, "saliency = Sigmoid (x)")))
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


@pytest.mark.parametrize(
    "last", ["ReduceMean <axes = [1], keepdims = 0> (image)", "Identity (grey)",
             "Transpose <perm = [0, 2, 3, 1]> (grey)"]
)  # fmt: skip
def test_maps_of_any_teacher_come_without_channels(tmp_path, last):
    """[N, h, w], [N, 1, h, w] and [N, h, w, 1] alike."""
    path = write(tmp_path / "net.onnx", f"{{{MEAN} saliency = {last}}}")
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
