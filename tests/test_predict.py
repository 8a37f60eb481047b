"""tools/predict.py: which files it writes, what is in them, its messages and exit codes."""

import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.files import InputError
from datasets.images import read_image, write_png
from datasets.masks import read_mask
from SCFNet.prediction.jobs import plan_jobs
from SCFNet.prediction.pipeline import RenderOptions, predict_jobs
from SCFNet.prediction.rendering import (
    ENDINGS,
    fit,
    object_box,
    overlay,
    parse_background,
    render,
    to_bytes,
)
from SCFNet.predictor import Predictor

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "tests" / "data"
WEIGHTS = DATA / "release_M3_0.5.pdparams"


def run_tool(*arguments, cwd=ROOT):
    command = [sys.executable, str(ROOT / "tools" / "predict.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def predictor():
    pytest.importorskip("paddle")
    return Predictor(WEIGHTS, device="cpu")


@pytest.fixture
def photos(tmp_path):
    """Photos that would overwrite each other's results, in a tree."""
    folder = tmp_path / "photos"
    for i, name in enumerate(("a.jpg", "a.png", "b.png", "day/a.png", "day/x.jpg", "x-cutout.png")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20 + i, 16), (40 * i, 80, 120)).save(path)
    (folder / "notes.txt").write_text("not a photo")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


def targets(inputs, output, kinds=("mask",)):
    jobs = plan_jobs([str(i) for i in inputs], output, [ENDINGS[kind] for kind in kinds])
    return {str(job.source): [str(t.relative_to(output)) for t in job.targets] for job in jobs}


def test_a_folder_keeps_its_tree_and_no_result_is_taken_twice(photos, tmp_path):
    planned = targets([photos], tmp_path / "out", ["mask", "cutout"])
    assert planned == {
        f"{photos}/a.jpg": ["a.jpg.png", "a.jpg-cutout.png"],
        f"{photos}/a.png": ["a.png.png", "a.png-cutout.png"],
        f"{photos}/b.png": ["b.png", "b-cutout.png"],
        f"{photos}/day/a.png": ["day/a.png", "day/a-cutout.png"],
        f"{photos}/day/x.jpg": ["day/x.png", "day/x-cutout.png"],
        f"{photos}/x-cutout.png": ["x-cutout.png", "x-cutout-cutout.png"],
    }


def test_a_stem_that_is_anothers_cutout(tmp_path):
    planned = targets(["x.jpg", "x-cutout.jpg"], tmp_path, ["mask", "cutout"])
    assert planned["x.jpg"] == ["x.jpg.png", "x.jpg-cutout.png"]
    assert planned["x-cutout.jpg"] == ["x-cutout.jpg.png", "x-cutout.jpg-cutout.png"]


def test_the_same_stem_from_different_folders(photos, tmp_path):
    planned = targets([photos / "a.png", photos / "day/a.png"], tmp_path / "out")
    assert sorted(t for ts in planned.values() for t in ts) == ["day/a.png.png", "photos/a.png.png"]


def test_the_same_file_twice_is_one_job(photos, tmp_path):
    inputs = [photos / "b.png", photos / "day" / ".." / "b.png", photos / "b*"]
    assert len(targets(inputs, tmp_path / "out")) == 1


def test_inputs_are_never_overwritten(photos):
    planned = targets([photos / "b.png"], photos)
    assert planned == {f"{photos}/b.png": ["b.png.png"]}


def test_earlier_results_are_no_inputs(photos):
    before = targets([photos], photos / "output")
    write_png(photos / "output" / "b.png", np.zeros((2, 2), "uint8"))
    assert targets([photos], photos / "output") == before


def test_globs(photos, tmp_path):
    assert set(targets([f"{photos}/**/a.*"], tmp_path / "out")) == {
        f"{photos}/{name}" for name in ("a.jpg", "a.png", "day/a.png")
    }
    bracket = photos / "c[1].png"
    shutil.copy(photos / "b.png", bracket)
    assert set(targets([bracket], tmp_path / "out")) == {str(bracket)}


def test_results_are_those_of_the_predictor(predictor, tmp_path):
    cat = DATA / "chelsea.png"
    kinds = ("mask", "cutout", "overlay")
    jobs = plan_jobs([str(cat)], tmp_path, [ENDINGS[kind] for kind in kinds])
    assert predict_jobs(predictor, jobs, RenderOptions(kinds)) == []
    names = ["chelsea-cutout.png", "chelsea-overlay.jpg", "chelsea.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names

    image = read_image(cat)
    expected = np.rint(predictor(image) * 255)
    with Image.open(tmp_path / "chelsea.png") as mask:
        assert mask.mode == "L"
        np.testing.assert_array_equal(np.asarray(mask), expected)
    with Image.open(tmp_path / "chelsea-cutout.png") as cutout:
        assert cutout.mode == "RGBA"
        np.testing.assert_array_equal(np.asarray(cutout), np.dstack([image, expected]))
    assert read_image(tmp_path / "chelsea-overlay.jpg").shape == image.shape


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_photo_that_fails_does_not_cost_the_rest(predictor, photos, tmp_path, batch_size):
    (photos / "broken.jpg").write_text("text")
    jobs = plan_jobs([str(photos), "gone.png"], tmp_path / "out", [".png"])
    errors = predict_jobs(predictor, jobs, RenderOptions(), batch_size)
    assert sorted(e.split(": ")[0] for e in errors) == [f"{photos}/broken.jpg", "gone.png"]
    written = {str(p) for p in (tmp_path / "out").rglob("*.*")}
    assert written == {
        str(j.targets[0]) for j in jobs if j.source.name not in ("broken.jpg", "gone.png")
    }


def test_align_corners_is_the_releases_test_script(predictor, tmp_path):
    paddle = pytest.importorskip("paddle")

    cat = DATA / "chelsea.png"
    predict_jobs(
        predictor, plan_jobs([str(cat)], tmp_path, [".png"]), RenderOptions(align_corners=True)
    )
    x = ((read_image(cat) - np.float32([124.55, 118.90, 102.94])) / [56.77, 55.97, 57.50]).astype(
        "float32"
    )
    resize = paddle.nn.functional.interpolate
    from SCFNet.checkpoint import load_net

    with paddle.no_grad():
        x = resize(paddle.to_tensor(x.transpose(2, 0, 1)[None]), (352, 352), mode="bilinear")
        probability = paddle.nn.functional.sigmoid(load_net(WEIGHTS)(x)[0])
        large = resize(probability, (300, 451), mode="bilinear", align_corners=True)
    expected = np.rint(large.numpy()[0, 0] * 255)
    with Image.open(tmp_path / "chelsea.png") as mask:
        difference = np.abs(np.asarray(mask) - expected)
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-3


def test_rendering():
    image = np.full((40, 60, 3), 100, "uint8")
    saliency = np.zeros((40, 60), "float32")
    saliency[10:20, 15:40] = 0.8
    alpha = to_bytes(saliency)
    assert alpha[12, 20] == 204 and alpha[0, 0] == 0
    assert set(np.unique(to_bytes(saliency, 0.8))) == {0, 255}
    assert to_bytes(saliency, 0.81).max() == 0
    assert image[object_box(alpha)].shape == (10, 25, 3)
    assert image[object_box(alpha * 0)].shape == image.shape

    shown = overlay(image, alpha)
    np.testing.assert_array_equal(shown[2, 2], image[2, 2])
    assert shown[15, 28, 0] > 130 and shown[15, 28, 1] < 100
    over = render("cutout", image, alpha, parse_background("#00ff00"))
    np.testing.assert_array_equal(over[0, 0], [0, 255, 0])
    np.testing.assert_array_equal(over[15, 28], [80, 131, 80])


def test_backgrounds(tmp_path):
    picture = np.zeros((10, 40, 3), "uint8")
    picture[:, 14:26] = 255
    write_png(tmp_path / "wide.png", picture)
    fitted = fit(parse_background(str(tmp_path / "wide.png")), (20, 20))
    assert fitted.shape == (20, 20, 3) and fitted.min() == 255
    with pytest.raises(InputError, match="neither a colour"):
        parse_background("no-such-thing")


def test_the_command(photos, tmp_path):
    (photos / "broken.jpg").write_text("text")
    done = run_tool(photos, "--weights", WEIGHTS, "--device", "cpu", "--output", tmp_path / "out")
    assert done.returncode == 1 and done.stdout == ""
    assert f"error: {photos}/broken.jpg: is not an image" in done.stderr
    assert "6 of 7 done" in done.stderr and "Traceback" not in done.stderr
    assert len(list((tmp_path / "out").rglob("*.png"))) == 6

    one = run_tool(photos / "b.png", "--output", tmp_path / "one", cwd=tmp_path)
    assert one.returncode == 0 and len(one.stderr.splitlines()) == 1 and "weights/" in one.stderr
    assert read_mask(tmp_path / "one" / "b.png").shape == (16, 22)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "INPUT"),
        (["a.png", "--batch-size", "0"], "--batch-size"),
        (["a.png", "--threshold", "2"], "--threshold"),
        (["a.png", "--save", "video"], "--save"),
        (["a.png", "--weights", "none.pdparams"], "error: none.pdparams: cannot be read"),
        (["a.png", "--background", "nonsense"], "error: --background nonsense"),
    ],
)
def test_wrong_usage_is_exit_status_2(arguments, said):
    done = run_tool(*arguments)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


@pytest.fixture
def many(tmp_path):
    """A folder of 150 photos that take a while."""
    folder = tmp_path / "many"
    folder.mkdir()
    photo = Image.open(DATA / "chelsea.png").convert("RGB").resize((900, 600))
    photo.save(folder / "000.jpg")
    for i in range(1, 150):
        shutil.copy(folder / "000.jpg", folder / f"{i:03}.jpg")
    return folder


def interrupt(many, output, how):
    """Run the tool on `many`, send the signal `how` after some photos; (exit code, stderr)."""
    command = [sys.executable, str(ROOT / "tools" / "predict.py"), str(many)]
    command += ["--output", str(output), "--device", "cpu"]
    # a background job of a shell ignores Ctrl-C, and would hand that down
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed) as process:
        give_up = time.monotonic() + 60
        while time.monotonic() < give_up and len(list(output.glob("*.png"))) < 3:
            time.sleep(0.005)
        process.send_signal(how)
        stderr = process.communicate(timeout=30)[1]
    return process.returncode, stderr


def test_killed_in_the_middle_and_finished_by_skip_existing(many, tmp_path):
    output = tmp_path / "out"
    interrupt(many, output, signal.SIGKILL)
    before = {path: path.stat().st_mtime_ns for path in output.glob("*.png")}
    assert 3 <= len(before) < 150
    for path in before:
        assert read_mask(path).shape == (600, 900)
    done = run_tool(many, "--output", output, "--device", "cpu", "--skip-existing")
    assert done.returncode == 0, done.stderr
    assert len(list(output.glob("*.png"))) == 150
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())


def test_one_ctrl_c_is_enough(many, tmp_path):
    code, stderr = interrupt(many, tmp_path / "out", signal.SIGINT)
    assert code == 130 and "interrupted" in stderr and "Traceback" not in stderr
    assert {p.suffix for p in (tmp_path / "out").iterdir()} == {".png"}
    assert len(list((tmp_path / "out").iterdir())) < 150
