"""Exporting, and the two engines: they agree, and a stale or foreign file is refused."""

import json
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import paddle
import pytest
import skimage.data

import SCFNet.backends
from SCFNet.backends import open_onnx
from SCFNet.checkpoint import digest, find_weights, load_checkpoint
from SCFNet.errors import InputError
from SCFNet.export import PADDLE2ONNX, export
from SCFNet.photos.images import read_image
from SCFNet.predictor import DEFAULT_WEIGHTS, Predictor

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = ROOT / "tests" / "data" / "release_M3_0.5.pdparams"
PHOTOS = [
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "rocket.jpg",
    "retina.jpg",
    "motorcycle_left.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "camera.png",
    "coins.png",
    "text.png",
    "page.png",
]

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
    sizes = set()
    for name in PHOTOS:
        image = read_image(Path(skimage.data.__file__).parent / name)
        sizes.add(image.shape)
        difference = np.abs(by_onnx(image) - by_paddle(image)).max()
        assert difference < 1e-4, name
    assert len(sizes) >= 10


def test_onnx_never_imports_paddle(tmp_path):
    code = (
        "import sys; from SCFNet.predictor import Predictor; import numpy as np;"
        f"p = Predictor(r'{DEFAULT_WEIGHTS}', device='cpu');"
        "p(np.zeros((9, 9, 3), 'uint8')); print(p.engine, 'paddle' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["onnx", "False"], done.stderr


def test_a_list_of_images_is_one_batch():
    predictor = Predictor(DEFAULT_WEIGHTS.with_suffix(".onnx"))
    images = [np.full((20, 30, 3), grey, "uint8") for grey in (0, 120, 255)]
    for saliency, image in zip(predictor(images), images):
        np.testing.assert_array_equal(saliency, predictor(image))


def test_a_stale_file_is_refused_with_the_command_that_renews_it(shipped):
    assert Predictor(shipped, device="cpu").engine == "onnx"
    shutil.copy(WEIGHTS, shipped)
    for engine in ("auto", "onnx"):
        with pytest.raises(InputError, match=r"other weights.*tools/export\.py --weights .*net"):
            Predictor(shipped, device="cpu", engine=engine)
    assert Predictor(shipped, device="cpu", engine="paddle").engine == "paddle"


def test_which_engine_runs(shipped, monkeypatch):
    assert Predictor(shipped, device="cpu", size=224).engine == "paddle"
    monkeypatch.setattr(SCFNet.backends.shutil, "which", lambda name: None)
    assert Predictor(shipped).engine == "onnx"
    shipped.with_suffix(".onnx").unlink()
    assert Predictor(shipped).engine == "paddle"


def test_wishes_that_cannot_be_fulfilled(shipped, tmp_path):
    exported = shipped.with_suffix(".onnx")
    for arguments, fault in (
        ({"engine": "paddle"}, "takes a .pdparams"),
        ({"device": "gpu"}, "run on the CPU"),
        ({"device": "tpu"}, "device: 'tpu' is none of auto, cpu, gpu and gpu:N"),
        ({"size": 224}, "is of size 352; renew it: .* --size 224"),
        ({"backbone": "R50"}, "is of EL0, not of R50"),
    ):
        with pytest.raises(InputError, match=fault):
            Predictor(exported, **arguments)
    with pytest.raises(InputError, match=r"gone\.onnx: does not exist; make it by: .*export\.py"):
        Predictor(tmp_path / "gone.pdparams", engine="onnx")
    (tmp_path / "bad.onnx").write_bytes(b"not a network")
    with pytest.raises(InputError, match=r"bad\.onnx: not an ONNX file, or damaged"):
        Predictor(tmp_path / "bad.onnx")
    with pytest.raises(ValueError, match="unknown engine"):
        Predictor(shipped, engine="torch")


@pytest.mark.parametrize(("name", "network"), [("small", "M3_0.5"), ("accurate", "EL0")])
def test_shipped_files_say_what_they_take(name, network):
    import onnxruntime

    file = find_weights(name)
    session = onnxruntime.InferenceSession(str(file.with_suffix(".onnx")))
    meta = session.get_modelmeta().custom_metadata_map
    assert meta["size"] == "352" and meta["model_type"] == network
    assert meta["weights_sha256"] == digest(load_checkpoint(file))
    assert json.loads(meta["mean"]) == [124.55, 118.9, 102.94]
    assert json.loads(meta["std"]) == [56.77, 55.97, 57.5]
    assert [session.get_inputs()[0].name, session.get_outputs()[0].name] == ["image", "saliency"]


def test_the_digest_is_of_the_arrays_alone(tmp_path):
    state = load_checkpoint(WEIGHTS)
    again = {key: state[key].copy() for key in reversed(list(state))}
    assert digest(again) == digest(state)
    again[next(iter(again))].flat[0] += 1
    assert digest(again) != digest(state)


@needs_converter
@pytest.mark.parametrize("dynamic_batch", [pytest.param(False, marks=pytest.mark.slow), True])
def test_an_onnx_file_gives_paddles_maps(tmp_path, capsys, dynamic_batch):
    weights = shutil.copy(WEIGHTS, tmp_path / "net.pdparams")
    files = export(weights, size=96, dynamic_batch=dynamic_batch)
    assert files == [tmp_path / "net.onnx"]
    assert "largest difference from dygraph on a photo" in capsys.readouterr().out
    opened = open_onnx(files[0])
    assert opened.size == 96 and opened.weights_sha256 == digest(load_checkpoint(WEIGHTS))
    by_paddle = Predictor(WEIGHTS, device="cpu", size=96)
    images = [read_image(ROOT / "tests/data/chelsea.png"), np.zeros((5, 5, 3), "uint8")]
    by_onnx = Predictor(weights, device="cpu", engine="onnx", size=96)
    for saliency, expected in zip(by_onnx(images), by_paddle(images)):
        np.testing.assert_allclose(saliency, expected, atol=1e-4)


@needs_converter
def test_an_export_that_differs_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr("SCFNet.export._onnx_runner", lambda model: lambda image: image[:, :1] + 9)
    with pytest.raises(InputError, match="not written, it differs"):
        export(WEIGHTS, output=tmp_path / "net.onnx", size=32)
    assert not list(tmp_path.iterdir())


def test_paddles_format_runs_in_paddle(tmp_path):
    files = export(WEIGHTS, "paddle", tmp_path / "net", size=96)
    assert {f.name for f in files} >= {"net.pdiparams", "net.meta"}
    assert json.loads((tmp_path / "net.meta").read_text())["size"] == "96"
    program = paddle.jit.load(str(tmp_path / "net"))
    program.eval()
    assert list(program(paddle.zeros([1, 3, 96, 96])).shape) == [1, 1, 96, 96]


def test_export_refuses_what_it_cannot_read(tmp_path):
    with pytest.raises(InputError, match=r"size: must be a multiple of 32.* not 100"):
        export(WEIGHTS, size=100)
    with pytest.raises(InputError, match=r"gone\.pdparams"):
        export(tmp_path / "gone.pdparams")
