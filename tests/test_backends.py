"""Exporting, and the two engines: they agree, and a stale or foreign file is refused."""

import json
import shutil
import sys
from importlib import metadata
from types import SimpleNamespace

import cv2
import numpy as np
import paddle
import pytest

import SCFNet.backends
from SCFNet.backends import open_onnx
from SCFNet.checkpoint import WEIGHTS as SHIPPED_FOLDER
from SCFNet.checkpoint import digest, find_weights, load_checkpoint, load_net, sharpened_by
from SCFNet.errors import InputError
from SCFNet.export import PADDLE2ONNX, _write_pads, export, sharpen_logits
from SCFNet.photos.reading import read_image
from SCFNet.photos.transform import RELEASE, network_input
from SCFNet.prediction.rendering import RenderOptions
from SCFNet.predictor import DEFAULT_WEIGHTS, Predictor
from tests.conftest import CHELSEA, COFFEE, RELEASED, onnx_model, run_python

PHOTOS = [read_image(COFFEE), read_image(CHELSEA)]

onnx = pytest.importorskip("onnxruntime")


def can_convert():
    try:
        return metadata.version("paddle2onnx")[0] == PADDLE2ONNX[paddle.__version__[0]][0]
    except metadata.PackageNotFoundError:
        return False


needs_converter = pytest.mark.skipif(not can_convert(), reason="no paddle2onnx for this Paddle")


@pytest.fixture
def shipped(tmp_path):
    """A copy of the default checkpoint and of its exported file."""
    for suffix in (".pdparams", ".onnx"):
        shutil.copy(DEFAULT_WEIGHTS.with_suffix(suffix), tmp_path / f"net{suffix}")
    return tmp_path / "net.pdparams"


def test_the_engines_agree_on_real_photos():
    by_onnx = Predictor(DEFAULT_WEIGHTS, device="cpu", engine="onnx")
    by_paddle = Predictor(DEFAULT_WEIGHTS, device="cpu", engine="paddle")
    assert (by_onnx.engine, by_paddle.engine) == ("onnx", "paddle")
    assert by_onnx.made_by(RenderOptions()) == by_paddle.made_by(RenderOptions())
    for photo in PHOTOS:
        np.testing.assert_allclose(by_onnx(photo), by_paddle(photo), atol=1e-4)


def test_onnx_runtime_reads_a_checkpoints_exported_file_without_paddle():
    code = "import sys, SCFNet; SCFNet.Predictor(sys.argv[1]); print('paddle' in sys.modules)"
    assert run_python(code, DEFAULT_WEIGHTS).stdout == "False\n"


def test_a_stale_file_is_refused_with_the_command_that_renews_it(shipped):
    assert Predictor(shipped, device="cpu").engine == "onnx"
    shutil.copy(RELEASED, shipped)
    for engine in ("auto", "onnx"):
        with pytest.raises(InputError, match=r"other weights.*tools/export\.py --weights .*net"):
            Predictor(shipped, device="cpu", engine=engine)
    assert Predictor(shipped, device="cpu", engine="paddle").engine == "paddle"


def test_which_engine_runs(shipped, monkeypatch):
    small = Predictor(shipped, device="cpu", size=224)
    assert (small.engine, small.size, small(PHOTOS[1]).shape) == ("paddle", 224, (300, 451))
    monkeypatch.setattr(SCFNet.backends.shutil, "which", lambda name: None)
    assert Predictor(shipped).engine == "onnx"
    shipped.with_suffix(".onnx").unlink()
    assert Predictor(shipped).engine == "paddle"


@pytest.mark.parametrize("name", ["net-0.80", "model.v2", "net.PDPARAMS", "net.pth"])
def test_the_exported_file_of_any_name_is_found(shipped, name):
    exported = shipped.with_suffix(".onnx")
    weights = shipped.rename(shipped.with_name(name))
    stem = name if name in ("net-0.80", "model.v2") else "net"
    exported.rename(exported.with_name(f"{stem}.onnx"))
    assert Predictor(weights, device="cpu", engine="onnx").engine == "onnx"
    with pytest.raises(InputError, match=f"--weights .*{name} --size 224"):
        Predictor(weights, device="cpu", engine="onnx", size=224)


@pytest.fixture
def on_gpu(monkeypatch):
    """ONNX Runtime as on a machine with a GPU; the list of what it was asked for."""
    asked, real = [], onnx.InferenceSession

    def session(path, options, providers, **rest):
        asked.append(providers)
        opened = real(path, options, providers=["CPUExecutionProvider"], **rest)
        names = [one if isinstance(one, str) else one[0] for one in providers]
        monkeypatch.setattr(opened, "get_providers", lambda: names)
        return opened

    monkeypatch.setattr(onnx, "InferenceSession", session)
    monkeypatch.setattr(onnx, "get_available_providers", lambda: [SCFNet.backends.GPU])
    monkeypatch.setattr(onnx, "preload_dlls", lambda: print("noise"), raising=False)
    return asked


def test_an_exported_file_runs_on_a_gpu(shipped, on_gpu, monkeypatch, capsys):
    exported, cpu = shipped.with_suffix(".onnx"), "CPUExecutionProvider"
    image = np.zeros((9, 9, 3), "uint8")
    for device, number in (("gpu", 0), ("gpu:1", 1)):
        assert Predictor(exported, device=device)(image).shape == (9, 9)
        assert on_gpu.pop() == [(SCFNet.backends.GPU, {"device_id": number}), cpu]
    for device in ("auto", "cpu"):
        Predictor(exported, device=device)
        assert on_gpu.pop() == [cpu]
    monkeypatch.setitem(sys.modules, "paddle", None)  # not installed
    assert Predictor(shipped, device="gpu").engine == "onnx"
    assert on_gpu.pop()[0][0] == SCFNet.backends.GPU
    assert capsys.readouterr().out == ""


def test_a_gpu_that_onnx_runtime_cannot_use_is_told(shipped, on_gpu, monkeypatch):
    def without(path, options, **rest):
        raise RuntimeError("CUDA failure 100: no CUDA-capable device is detected")

    monkeypatch.setattr(onnx, "InferenceSession", without)
    with pytest.raises(InputError, match="device: gpu: onnxruntime-gpu finds no GPU"):
        Predictor(shipped.with_suffix(".onnx"), device="gpu")


@pytest.mark.parametrize(("name", "network"), [("small", "M3_0.5"), ("accurate", "EL0")])
def test_shipped_files_say_what_they_take(name, network):
    import onnxruntime

    file = find_weights(name)
    session = onnxruntime.InferenceSession(str(file.with_suffix(".onnx")))
    meta = session.get_modelmeta().custom_metadata_map
    assert meta["size"] == "352" and meta["model_type"] == network
    assert meta["weights_sha256"] == digest(load_checkpoint(file))
    assert float(meta["sharpened"]) == sharpened_by(file) == 3
    assert json.loads(meta["mean"]) == [124.55, 118.9, 102.94]
    assert json.loads(meta["std"]) == [56.77, 55.97, 57.5]
    assert [session.get_inputs()[0].name, session.get_outputs()[0].name] == ["image", "saliency"]


@pytest.mark.parametrize("name", ["small", "accurate"])
def test_opencv_runs_the_shipped_files(name):
    """Of any version: OpenCV 5 silently pads another way where the file says SAME_UPPER."""
    file = find_weights(name).with_suffix(".onnx")
    net = cv2.dnn.readNetFromONNX(str(file))
    for photo in PHOTOS:
        batch = network_input([photo], 352, RELEASE)
        net.setInput(batch)
        np.testing.assert_allclose(net.forward()[:, 0], open_onnx(file).run(batch), atol=1e-3)


@pytest.mark.parametrize("file", sorted(SHIPPED_FOLDER.glob("*.onnx")), ids=lambda file: file.stem)
def test_shipped_files_pad_by_numbers(file):
    graph = pytest.importorskip("onnx").load(str(file)).graph
    automatic = [a.s for node in graph.node for a in node.attribute if a.name == "auto_pad"]
    assert set(automatic) <= {b"NOTSET"}


def padded_convolution(size, kernel, stride, auto_pad):
    """A model of one convolution of ones."""
    (height, width), ones = kernel, ", ".join("1" * kernel[0] * kernel[1])
    shape = f"kernel_shape = [{height}, {width}], strides = [{stride}, {stride}]"
    weights = f"<float[1,1,{height},{width}] w = {{{ones}}}>"
    nodes = f'{weights} {{y = Conv <auto_pad = "{auto_pad}", {shape}> (x, w)}}'
    return onnx_model(nodes, f"float[1,1,{size[0]},{size[1]}] x", "y")


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads"),
    [
        ((16, 16), (3, 3), 2, [0, 0, 1, 1]),
        ((16, 16), (3, 3), 1, [1, 1, 1, 1]),
        ((16, 16), (1, 1), 2, [0, 0, 0, 0]),
        ((15, 16), (3, 5), 2, [1, 1, 1, 2]),
        ((17, 11), (5, 2), 3, [1, 0, 2, 0]),
    ],
)
def test_automatic_padding_becomes_numbers(size, kernel, stride, pads):
    def run(model):
        x = np.random.default_rng(0).random((1, 1, *size), "float32")
        return onnx.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]

    model = padded_convolution(size, kernel, stride, "SAME_UPPER")
    expected = run(model)
    _write_pads(model)
    attributes = {a.name: a for a in model.graph.node[0].attribute}
    assert "auto_pad" not in attributes and list(attributes["pads"].ints) == pads
    np.testing.assert_array_equal(run(model), expected)
    with pytest.raises(InputError, match=r"Conv .*: has auto_pad SAME_LOWER"):
        _write_pads(padded_convolution(size, kernel, stride, "SAME_LOWER"))


def test_sharpening_multiplies_the_logits(tmp_path):
    once, twice = tmp_path / "once.pdparams", tmp_path / "twice.pdparams"
    export(RELEASED, "pdparams", once, sharpen=2)
    export(once, "pdparams", twice, sharpen=1.5)
    assert [sharpened_by(file) for file in (RELEASED, once, twice)] == [1, 2, 3]
    photo = paddle.to_tensor(network_input(PHOTOS[:1], 96, RELEASE))
    with paddle.no_grad():
        nets = [load_net(file) for file in (RELEASED, once, twice)]
        soft, sharp, sharper = ([m.numpy() for m in net(photo)] for net in nets)
    np.testing.assert_array_equal(sharp[0], 2 * soft[0])
    np.testing.assert_allclose(sharper[0], 3 * soft[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(sharp[1], soft[1])
    plain = load_net(RELEASED)
    plain.load_dict(paddle.load(str(once)))  # the note is in no one's way
    np.testing.assert_array_equal(plain(photo)[0].numpy(), sharp[0])


def test_exports_that_cannot_be(tmp_path):
    for factor in (0, -1, float("nan"), float("inf")):
        with pytest.raises(InputError, match="sharpen: must be a positive number"):
            export(RELEASED, "pdparams", tmp_path / "net", sharpen=factor)
    with pytest.raises(InputError, match="sharpen: goes with --format pdparams"):
        export(RELEASED, "onnx", tmp_path / "net", sharpen=2)
    with pytest.raises(InputError, match=r"output: would write over .*: name another file"):
        export(RELEASED, "pdparams", sharpen=2)
    with pytest.raises(InputError, match="sharpen: is for SCFNet, not for U2Netp"):
        sharpen_logits(SimpleNamespace(model_type="U2Netp"), 2)
    with pytest.raises(InputError, match=r"size: must be a multiple of 32.* not 100"):
        export(RELEASED, size=100)
    with pytest.raises(InputError, match=r"gone\.pdparams"):
        export(tmp_path / "gone.pdparams")
    assert not list(tmp_path.iterdir())


def test_the_digest_is_of_the_arrays_alone(tmp_path):
    state = load_checkpoint(RELEASED)
    again = {key: state[key].copy() for key in reversed(list(state))}
    assert digest(again) == digest(state)
    again[next(iter(again))].flat[0] += 1
    assert digest(again) != digest(state)


@pytest.mark.parametrize(
    ("output", "written"),
    [
        ("net-0.80", "net-0.80.pdparams"),
        ("net-0.25.pdparams", "net-0.25.pdparams"),
        ("net.onnx", "net.pdparams"),
        ("there", "there/release_M3_0.5.pdparams"),
        ("not-there/", "not-there/release_M3_0.5.pdparams"),
    ],
)
def test_only_a_formats_suffix_is_replaced(tmp_path, output, written):
    (tmp_path / "there").mkdir()
    assert export(RELEASED, "pdparams", f"{tmp_path}/{output}") == [tmp_path / written]
    assert (tmp_path / written).is_file()


@needs_converter
@pytest.mark.slow
@pytest.mark.parametrize("dynamic_batch", [False, True])
def test_an_onnx_file_gives_paddles_maps(tmp_path, capsys, dynamic_batch):
    weights = shutil.copy(RELEASED, tmp_path / "net.pdparams")
    files = export(weights, size=96, dynamic_batch=dynamic_batch)
    assert files == [tmp_path / "net.onnx"]
    assert "largest difference from dygraph on a photo" in capsys.readouterr().out
    opened = open_onnx(files[0])
    assert opened.size == 96 and opened.weights_sha256 == digest(load_checkpoint(RELEASED))
    by_paddle = Predictor(RELEASED, device="cpu", size=96)
    images = [PHOTOS[1], np.zeros((5, 5, 3), "uint8")]
    by_onnx = Predictor(weights, device="cpu", engine="onnx", size=96)
    for saliency, expected in zip(by_onnx(images), by_paddle(images)):
        np.testing.assert_allclose(saliency, expected, atol=1e-4)


@needs_converter
@pytest.mark.slow
def test_an_export_that_differs_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr("SCFNet.export.TOLERANCE", -1.0)
    with pytest.raises(InputError, match="not written, it differs"):
        export(RELEASED, output=tmp_path / "net.onnx", size=32)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_paddles_format_runs_in_paddle(tmp_path):
    files = export(RELEASED, "paddle", tmp_path / "net", size=96)
    assert {f.name for f in files} >= {"net.pdiparams", "net.meta"}
    assert json.loads((tmp_path / "net.meta").read_text())["size"] == "96"
    program = paddle.jit.load(str(tmp_path / "net"))
    program.eval()
    assert list(program(paddle.zeros([1, 3, 96, 96])).shape) == [1, 1, 96, 96]
