"""What the tests share: tools run as a person runs them, small runs of training, made data.

Nothing here imports Paddle, which the tests of prediction do without.
"""

import io
import os
import pickle
import re
import runpy
import struct
import subprocess
import sys
import zlib
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pytest
from PIL import Image

from SCFNet.errors import InputError
from SCFNet.photos.reading import read_photo
from SCFNet.photos.transform import MEAN, STD
from SCFNet.prediction.command import run_command
from SCFNet.predictor import Predictor
from SCFNet.training.recipe import DistillRecipe, Recipe, parse

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "tests" / "data"
COFFEE, CHELSEA = DATA / "coffee.jpg", DATA / "chelsea.png"  # photos of 600 x 400 and 451 x 300
RELEASED = DATA / "release_M3_0.5.pdparams"  # of the release; no .onnx file is beside it
SMALL_RUN = {
    "pretrained": "none",
    "device": "cpu",
    "sizes": (64, 96),
    "batch_size": 4,
    "log_every": 1,
    "lr": 0.01,
}
STEP = re.compile(r"step (\d+) rate \S+ (loss \S+ maps \S+ \S+ \S+ \S+)")


def tool_command(tool, *arguments):
    return [sys.executable, "-u", str(ROOT / "tools" / f"{tool}.py"), *map(str, arguments)]


def run_tool(tool, *arguments, cwd=ROOT):
    """Run tools/`tool`.py to its end; the result has returncode, stdout and stderr."""
    command = tool_command(tool, *arguments)
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


def run_python(code, *arguments, folder=ROOT, path="", environment=os.environ):
    """Run Python code in `folder`, where `path` is searched for modules first."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**environment, "PYTHONPATH": str(path)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def readme_block(text, language):
    """README.md's first code block in `language` with `text` in it."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(rf"```{language}\n(.*?)```", readme, re.DOTALL)
    return next(block for block in blocks if text in block)


def run_here(command, *arguments):
    """Run a command's function in this process; the result is as that of `run_tool`."""
    out, err = io.StringIO(), io.StringIO()
    with mock.patch("sys.argv", ["a tool", *map(str, arguments)]), pytest.raises(SystemExit) as end:
        with redirect_stdout(out), redirect_stderr(err):
            command()
    return subprocess.CompletedProcess([], end.value.code, out.getvalue(), err.getvalue())


def predict(*arguments):
    """Run `scfnet` in this process."""
    return run_here(run_command, *arguments)


def fault_of(tool, *arguments):
    """What is wrong with these arguments, by `main` of tools/`tool`.py in this process."""
    command = [tool, *map(str, arguments)]
    with mock.patch("sys.argv", command), mock.patch("sys.path", [*sys.path, str(ROOT / "tools")]):
        main = runpy.run_path(str(ROOT / "tools" / f"{tool}.py"))["main"]
        with pytest.raises(InputError) as fault:
            main()
    assert "\n" not in str(fault.value)
    return str(fault.value)


def start_tool(tool, *arguments, launcher=()):
    """Start tools/`tool`.py; `launcher` are Python's arguments in front of it."""
    python, unbuffered, *rest = tool_command(tool, *arguments)
    return subprocess.Popen(
        [python, unbuffered, *launcher, *rest],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def run_until(process, steps, number):
    """What a training run prints of its losses, by step; it gets signal `number` after `steps`."""
    found = {}
    for line in process.stdout:
        step = STEP.search(line)
        if step:
            found[int(step[1])] = step[2]
            if len(found) == steps:
                process.send_signal(number)
    return found


def losses_in(printed):
    """The total loss and those of the four maps, [steps, 5], of what a run has printed."""
    lines = [text for _, text in STEP.findall(printed)]
    return np.array([[float(x) for x in re.findall(r"\d+\.\d+", line)[:5]] for line in lines])


def write_png_header(path, side):
    """A grey PNG file that says to be `side` x `side`, and is smaller."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    small = encoded(Image.new("L", (8, 8)), "PNG")
    path.write_bytes(small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:])


def leave_temporary(folder):
    """Put into `folder` what a run leaves there that was killed long ago."""
    leftover = folder / ".b.12345-67.tmp"
    leftover.write_bytes(b"half a picture")
    os.utime(leftover, (0, 0))


def as_flags(**knobs):
    """The command line of a small run on the CPU with these knobs of its recipe."""
    found = []
    for name, value in {**SMALL_RUN, **knobs}.items():
        values = value if isinstance(value, (tuple, list)) else [value]
        found += ["--" + name.replace("_", "-"), *(map(str, values) if value is not True else ())]
    return found


def recipe(kind=Recipe, **knobs):
    """The recipe that these flags give."""
    return parse(kind, "", as_flags(**knobs))


def write_pairs(folder, count=10):
    """A data set of coloured boxes on noise, 72 x 64; returns `folder`."""
    rng = np.random.default_rng(0)
    for i in range(count):
        image = rng.integers(0, 120, (64, 72, 3), "uint8")
        mask = np.zeros((64, 72), "uint8")
        y, x = rng.integers(4, 30, 2)
        mask[y : y + 25, x : x + 30] = 255
        image[mask > 0] += 100
        for kind, name, array in (("image", f"{i}.jpg", image), ("mask", f"{i}.png", mask)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / kind / name), array)
    return folder


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    """A folder of ten pairs; do not write into it."""
    return write_pairs(tmp_path_factory.mktemp("pairs"))


def distill_recipe(**knobs):
    """`recipe` for a run with a teacher."""
    return recipe(DistillRecipe, **knobs)


def reference_batch():
    """Tensors: images, masks and teacher logits of train_{fs,kd}_seed5.json."""
    import paddle

    rng = np.random.default_rng(5)
    images = rng.standard_normal((4, 3, 128, 128)).astype("float32")  # as the release normalises
    images = images * STD.reshape(3, 1, 1) + MEAN.reshape(3, 1, 1)
    yy, xx = np.mgrid[0:128, 0:128]
    masks = np.stack(
        [(yy - 50 - 5 * i) ** 2 / 1600 + (xx - 60) ** 2 / (900 + 200 * i) < 1 for i in range(4)]
    )[:, None].astype("float32")
    teacher = (6 * (masks - 0.5) + rng.standard_normal(masks.shape)).astype("float32")
    return [paddle.to_tensor(array) for array in (images, masks, teacher)]


def onnx_model(nodes, source="float[N,3,32,32] image", target="saliency", **meta):
    """A model of these nodes, in the language of onnx.parser, and what it says of itself."""
    parser = pytest.importorskip("onnx.parser")
    head = '<ir_version: 8, opset_import: ["": 13]> net'
    model = parser.parse_model(f"{head} ({source}) => (float[] {target}) {nodes}")
    for key, value in meta.items():
        model.metadata_props.add(key=key, value=value)
    return model


def save_onnx_teacher(path, shape=("n", 3, 64, 64), operator=None):
    """An .onnx teacher: the mean of the three channels, as [N, 1, H, W].

    `operator` comes after it: "Log" gives NaN for most pixels, "first" the first photo's map alone.
    """
    last = f"{operator or 'Identity'} (mean)"
    if operator == "first":
        last = "Gather <axis = 0> (mean, zero)"
    nodes = f"<int64[1] zero = {{0}}> {{mean = ReduceMean <axes = [1]> (photo) map = {last}}}"
    source = f"float[{','.join(map(str, shape))}] photo"
    Path(path).write_bytes(onnx_model(nodes, source, "map").SerializeToString())
    return path


@pytest.fixture(scope="session")
def teacher_file(tmp_path_factory):
    """A teacher file whose maps are not constant: BatchNorm's statistics are those of photos."""
    import paddle

    from SCFNet.checkpoint import save_weights
    from SCFNet.net import SCFNet

    path = tmp_path_factory.mktemp("teacher") / "teacher.pdparams"
    paddle.set_device("cpu")
    paddle.seed(3)
    net = SCFNet(backbone="M3_0.5")
    rng = np.random.default_rng(0)
    for _ in range(20):
        net(paddle.to_tensor(rng.standard_normal((2, 3, 64, 64), "float32")))
    save_weights(net, path)
    return path


@pytest.fixture(scope="session")
def predictor():
    """The release's checkpoint in Paddle."""
    pytest.importorskip("paddle")
    return Predictor(RELEASED, device="cpu")


class Bright:
    """Stands in for a predictor: what is bright is the object."""

    sharpened = 1

    def maps(self, images):
        return [(image.astype("float32").mean(2) > 110).astype("float32") for image in images]


bright = Bright()


HEIGHT, WIDTH = 24, 32


def photo(seed=0, height=HEIGHT, width=WIDTH):
    """A smooth random photo, which JPEG keeps nearly as it is."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype="uint8")
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def disc(height=HEIGHT, width=WIDTH, radius=7):
    y, x = np.mgrid[:height, :width]
    return ((y - height / 2) ** 2 + (x - width / 2) ** 2 < radius**2).astype("uint8") * 255


def make_set(root, stems, folders=("image", "mask"), suffix=".jpg", listed=None, newline="\n"):
    """Write a data set of one pair per stem; `listed` is the text of its train.txt."""
    for i, stem in enumerate(stems):
        for folder, end, pixels in zip(folders, (suffix, ".png"), (photo(i), disc())):
            path = root / folder / (stem + end)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    if listed is not None:
        (root / "train.txt").write_text(listed, "utf-8", newline=newline)
    return root


ARRAYS = {"a.weight": np.arange(6, dtype="float32").reshape(2, 3), "b": np.ones((), "int64")}


def write_pickle(path, value, protocol=4):
    """Pickle `value` to `path`, which is returned."""
    path.write_bytes(pickle.dumps(value, protocol))
    return path


def assert_same(found, expected):
    """Two state dicts have the same keys in the same order, types and values."""
    assert list(found) == list(expected)
    for key in expected:
        assert found[key].dtype == expected[key].dtype
        np.testing.assert_array_equal(found[key], expected[key])


class Hostile:
    """An object whose unpickling calls `function(*args)`."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


@pytest.fixture(scope="session")
def cat():
    """A photo of 150 x 100 pixels, a PIL image in RGB; do not write into it."""
    return Image.open(CHELSEA).convert("RGB").resize((150, 100))


def encoded(image, image_format="JPEG", **options):
    """The bytes of a PIL image as a file."""
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


def read_bytes(data):
    """The colours of a photo of these bytes, RGB uint8 [H, W, 3]."""
    return read_photo("a name", data).image
