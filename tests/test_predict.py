"""tools/predict.py: which files it writes, what is in them, its messages and exit codes."""

import errno
import io
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.maps import read_map
from datasets.masks import read_mask
from SCFNet.checkpoint import SHIPPED
from SCFNet.maps import clean_alpha, resize_map
from SCFNet.photos.reading import read_image, read_photo
from SCFNet.prediction import pipeline
from SCFNet.prediction.jobs import plan_jobs
from SCFNet.prediction.marks import is_result
from SCFNet.prediction.pipeline import predict_jobs
from SCFNet.prediction.progress import progress
from SCFNet.prediction.rendering import ENDINGS, RenderOptions
from tests.conftest import CHELSEA, COFFEE, bright, leave_temporary, predict, tool_command

KINDS = ("mask", "cutout", "overlay")


def pixels(path):
    """The pixels of a picture as its file has them."""
    with Image.open(path) as picture:
        return np.asarray(picture)


def pictures_of(predictor, photo, output, options):
    """What is written of a photo, a file for each kind."""
    (job,) = plan_jobs([str(photo)], output, [ENDINGS[kind] for kind in options.kinds])
    assert predict_jobs(predictor, [job], options) == []
    return job.targets


@pytest.fixture
def photos(tmp_path):
    """Six photos in a tree."""
    folder = tmp_path / "photos"
    for i, name in enumerate(("a.jpg", "a.png", "b.png", "day/a.png", "day/x.jpg", "x-cutout.png")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20 + i, 16), (40 * i, 80, 120)).save(path)
    return folder


def test_results_are_those_of_the_predictor(predictor, tmp_path):
    written = pictures_of(predictor, CHELSEA, tmp_path, RenderOptions(KINDS))
    names = ["chelsea.png", "chelsea-cutout.png", "chelsea-overlay.jpg"]
    assert [path.name for path in written] == names and len(list(tmp_path.iterdir())) == 3
    mask, cutout, overlay = map(pixels, written)
    image = read_image(CHELSEA)
    alpha = clean_alpha(predictor.maps([image])[0], image.shape[:2], predictor.sharpened)
    np.testing.assert_array_equal(mask, np.rint(predictor(image) * 255))
    np.testing.assert_array_equal(cutout, np.dstack([image, alpha]))
    assert overlay.shape == image.shape


def test_a_clean_mask_is_the_cutouts_alpha_and_all_are_cropped_alike(tmp_path):
    for flags in (("--clean",), ("--clean", "--crop"), ("--crop",)):
        done = predict(COFFEE, "--save", "mask", "cutout", "--output", tmp_path, *flags)
        assert done.returncode == 0, done.stderr
        mask, cutout = pixels(tmp_path / "coffee.png"), pixels(tmp_path / "coffee-cutout.png")
        alpha = cutout[..., 3]
        assert mask.shape == alpha.shape
        assert (mask.shape == (400, 600)) == ("--crop" not in flags)
        assert (mask != alpha).any() == ("--clean" not in flags)


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
def test_pictures_have_the_format_and_the_resolution_that_are_asked_for(tmp_path, suffix):
    photo = tmp_path / "a.jpg"
    with Image.open(COFFEE) as image:
        image.save(photo, quality=95, dpi=(300, 300))
    flags = "--output", tmp_path / "out", "--format", suffix
    ground = ("--background", "white") if suffix == "jpg" else ()
    done = predict(photo, "--save", *KINDS, *flags, *ground)
    assert done.returncode == 0, done.stderr
    names = {f"a{kind}.{suffix}" for kind in ("", "-cutout", "-overlay")}
    for _ in range(2):
        assert {path.name for path in (tmp_path / "out").iterdir()} == names
        assert predict(photo, *flags).returncode == 0
    for path in (tmp_path / "out").iterdir():
        assert is_result(path) and read_photo(path).dpi == (300, 300)
        with Image.open(path) as picture:
            assert picture.format == {"jpg": "JPEG"}.get(suffix, suffix.upper())


def test_a_webp_mask_is_the_png_mask_and_a_webp_cutout_is_small(tmp_path):
    for image_format in ("png", "webp"):
        flags = "--save", "mask", "cutout", "--format", image_format, "--output", tmp_path
        assert predict(COFFEE, *flags).returncode == 0
    webp_mask = pixels(tmp_path / "coffee.webp")  # WebP knows no grey
    np.testing.assert_array_equal(webp_mask[..., 0], pixels(tmp_path / "coffee.png"))
    sizes = [(tmp_path / f"coffee-cutout.{s}").stat().st_size for s in ("png", "webp")]
    assert sizes[1] < sizes[0] / 5
    png, webp = pixels(tmp_path / "coffee-cutout.png"), pixels(tmp_path / "coffee-cutout.webp")
    np.testing.assert_array_equal(webp[..., 3], png[..., 3])
    solid = png[..., 3] == 255
    assert np.abs(webp[solid].astype(int) - png[solid]).mean() < 3


@pytest.mark.parametrize("name", ["cut.png", "deep/cut.PNG", "cut.webp", "cut.jpeg", "net-0.8.jpg"])
def test_one_result_goes_to_the_file_that_is_named(tmp_path, name):
    flags = "--save", "cutout", "--background", "white", "--output", tmp_path / name
    for _ in range(2):
        done = predict(COFFEE, "--weights", "small", *flags)
        assert done.returncode == 0 and done.stderr.endswith(f"written: {tmp_path / name}\n")
    assert list(tmp_path.rglob("*.*")) == [tmp_path / name]
    with Image.open(tmp_path / name) as picture:
        suffix = Path(name).suffix.lower().replace("jpeg", "jpg")
        assert picture.format == {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP"}[suffix]
        assert picture.size == (600, 400) and is_result(tmp_path / name)


@pytest.mark.parametrize("name", ["a.png", "link.png"])
def test_the_file_that_is_named_is_not_the_input(tmp_path, name):
    photo = shutil.copy(CHELSEA, tmp_path / "a.png")
    (tmp_path / "link.png").symlink_to(photo)
    done = predict(photo, "--output", tmp_path / name)
    assert done.returncode == 2 and "is an input, which stays as it is" in done.stderr
    assert photo.read_bytes() == (CHELSEA).read_bytes()


@pytest.mark.parametrize(
    ("total", "size", "said"),
    [(9, 1, []), (25, 4, [4, 8, 12, 16, 20, 24]), (None, 1, [])],
)
def test_progress_is_said_at_tenths(capsys, total, size, said):
    sizes = [size] * -(-(total or 40) // size)
    passed = list(progress(sizes, total, "frame", "clip.mp4", size=lambda item: item))
    assert passed == sizes
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"clip.mp4: {n} of {total} done" for n in said]


FAILING = {
    "read": (pipeline, "read_photo", lambda path: path.name == "x.jpg"),
    "predict": (bright, "maps", lambda images: 24 in [image.shape[1] for image in images]),
    "write": (pipeline, "encode_image", lambda path: path.name == "x.png"),
}


@pytest.mark.parametrize("step", FAILING)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_photo_too_large_for_the_memory_does_not_cost_the_rest(
    photos, tmp_path, monkeypatch, batch_size, step
):
    owner, name, is_large = FAILING[step]
    function = getattr(owner, name)

    def call(*args):
        if is_large(args[0]):
            raise MemoryError
        return function(*args)

    monkeypatch.setattr(owner, name, call)
    jobs = plan_jobs([str(photos)], tmp_path / "out", [".png"])
    errors = predict_jobs(bright, jobs, RenderOptions(), batch_size)
    assert errors == [f"{photos}/day/x.jpg: not enough memory"]
    assert len(list((tmp_path / "out").rglob("*.png"))) == len(jobs) - 1


def test_align_corners_is_the_releases_way_of_resizing(predictor, tmp_path):
    (mask,) = pictures_of(predictor, CHELSEA, tmp_path, RenderOptions(align_corners=True))
    saliency = predictor.maps([read_image(CHELSEA)])[0]
    expected = np.rint(resize_map(saliency, (300, 451), align_corners=True) * 255)
    difference = np.abs(read_map(mask) - expected)
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-3


def test_a_folder_is_predicted_but_for_what_is_no_photo(tmp_path):
    for i in range(19):
        Image.new("RGB", (16, 16), (i, 0, 0)).save(tmp_path / f"{i}.png")
    (tmp_path / "broken.jpg").write_text("text")
    (tmp_path / "notes.txt").write_text("not a photo")
    done = predict(tmp_path, "--output", tmp_path / "out")
    assert done.returncode == 1 and done.stdout == ""
    left_out, _, *tenths, error, last = done.stderr.splitlines()
    assert left_out == "left out: .txt (1)"
    assert tenths == [f"{n} of 20 done" for n in range(2, 20, 2)]
    assert error.startswith(f"error: {tmp_path}/broken.jpg: is not an image")
    assert last == f"19 of 20 done, in {tmp_path}/out"
    assert len(list((tmp_path / "out").iterdir())) == 19


def test_one_photo_says_what_was_written_and_what_a_killed_run_left_goes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("one").mkdir()
    leave_temporary(Path("one"))
    done = predict(CHELSEA, "--save", "mask", "overlay", "--output", "one")
    assert done.returncode == 0, done.stderr
    weights, written = done.stderr.splitlines()
    assert weights.startswith("weights: ")
    assert written == "written: one/chelsea.png, one/chelsea-overlay.jpg"
    assert read_mask("one/chelsea.png").shape == (300, 451)
    assert {path.name for path in Path("one").iterdir()} == {"chelsea.png", "chelsea-overlay.jpg"}


def test_skip_existing_says_what_it_skipped(photos, tmp_path):
    command = photos, "--output", photos, "--skip-existing"
    done = [predict(*command) for _ in range(3)]
    assert [d.returncode for d in done] == [0, 0, 0]
    assert done[0].stderr.splitlines()[-1] == f"6 of 6 done, in {photos}"
    for again in done[1:]:
        assert again.stderr.splitlines() == [
            "left out: results of earlier runs (6)",
            f"6 of 6 were there already, in {photos}",
            "nothing to do",
        ]


def test_results_of_other_weights_or_settings_are_made_again(tmp_path):
    flags = CHELSEA, "--output", tmp_path / "chelsea.png", "--skip-existing", "--weights"
    exported = SHIPPED["small"].with_suffix(".onnx")  # of the same weights
    cutout = "accurate", "--save", "cutout", "--background"
    for *settings, again in (
        ("small", True),
        ("small", False),
        (exported, False),
        ("accurate", True),
        ("accurate", "--threshold", "0.5", True),
        ("accurate", "--threshold", "0.5", "--batch-size", "2", False),
        (*cutout, "white", True),
        (*cutout, "black", True),
        (*cutout, "#000", False),
    ):
        done = predict(*flags, *settings)
        last = f"written: {tmp_path}/chelsea.png" if again else "nothing to do"
        assert done.returncode == 0 and done.stderr.splitlines()[-1] == last


def test_a_photo_may_come_from_standard_input_and_go_to_standard_output():
    command = tool_command("predict", "-", "--save", "cutout", "--output", "-", "--device", "cpu")
    photo = (CHELSEA).read_bytes()
    done = subprocess.run(command, input=photo, capture_output=True)
    assert done.returncode == 0, done.stderr
    with Image.open(io.BytesIO(done.stdout)) as cutout:
        assert cutout.mode == "RGBA" and cutout.size == (451, 300)
    done = subprocess.run(command, input=b"no photo", capture_output=True)
    assert done.returncode == 1 and done.stdout == b""
    assert b"error: stdin: is not an image" in done.stderr  # and names no temporary folder


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the shell is POSIX'")
@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ("- <&-", 2, "error: standard input is closed: name a file in place of -"),
        ("{photo} --output - >&-", 2, "error: standard output is closed: name a folder by"),
        ("{photo} --output OUT <&- >&- 2>&-", 0, ""),
        ("{photo} --output - 2>&- | head -c 4 | grep -aq PNG", 0, ""),
        ("{photo} --output OUT 2>/dev/full", 0, ""),
        ("- --output OUT < {photo} >&-", 0, "written: OUT/stdin.png"),
    ],
)
def test_a_closed_stream_is_an_error_where_it_is_needed(tmp_path, arguments, status, said):
    arguments = arguments.format(photo=COFFEE)
    command = f"{shlex.join(tool_command('predict'))} {arguments}"
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, said in done.stderr, done.stdout) == (status, True, ""), done.stderr
    assert len(list(tmp_path.glob("OUT/*.png"))) == ("OUT" in arguments)


NO_FOLDER = "error: - cannot be read, or kept in a temporary folder: No"


def test_only_a_stream_needs_a_temporary_folder(tmp_path, monkeypatch):
    def none_there(*_):
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in []")

    monkeypatch.setattr(tempfile, "gettempdir", none_there)
    monkeypatch.setattr(tempfile, "_get_default_tempdir", none_there)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"no photo")))
    for arguments, status in (([COFFEE], 0), (["-"], 2), ([COFFEE, "--output", "-"], 2)):
        done = predict("--output", tmp_path / "out", *arguments)
        assert done.returncode == status
        assert done.stderr.splitlines()[-1].startswith(NO_FOLDER) == (status == 2)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["coffee.png"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no INPUT: name images, videos, folders or patterns"),
        (["a.png", ""], "error: an INPUT is empty"),
        (["a.png", "--batch-size", "0"], "--batch-size"),
        (["a.png", "--threshold", "2"], "--threshold"),
        (["a.png", "--threshold", "nan"], "--threshold"),
        (["a.png", "--save", "video"], "--save video: choose from mask, cutout, overlay"),
        (["--save", "mask", "a.png"], "inputs go before it: scfnet photo.jpg --save mask"),
        (["a.png", "--size", "100"], "error: --size: must be a multiple of 32"),
        (["a.png", "--weights", "none.pdparams"], "error: none.pdparams: cannot be read"),
        (["a.png", "--weights", "tests"], "error: tests: is a folder"),
        (["a.png", "--weights", ""], "argument --weights: the name is empty"),
        (["a.png", "--output="], "argument --output: the name is empty"),
        (["a.png", "--shard", "9/8"], "--shard must be K/N, from 1/N to N/N"),
        (["a.png", "--shard", "0/8"], "--shard must be K/N"),
        (["a.png", "--shard", "3"], "--shard must be K/N"),
        (["a.png", "--background", "white"], "are for cut-outs: add --save cutout"),
        (["a.png", "--edge-colors"], "are for cut-outs: add --save cutout"),
        (["a.png", "--format", "jpg", "--save", "cutout"], "give cut-outs a --background"),
        (["a.png", "--format", "gif"], "--format"),
        (["a.png", "--format", "webp", "png"], "--format takes one format of pictures"),
        (["a.png", "b.png", "--output", "c.png"], "--output: c.png is one file, not those of 2"),
        (["a.png", "--output", "c.png", "--save", "mask", "overlay"], "--save one kind"),
        (["a.png", "--output", "c.mp4"], "--output: c.mp4: of another kind than a.png"),
        (["a.png", "--output", "c.png", "--format", "webp"], "--output c.png says another"),
        (["a.png", "--output", "c.jpg", "--save", "cutout"], "give cut-outs a --background"),
        (["a.png", "--output", "-", "--save", "mask", "overlay"], "--save one kind"),
        (["a.png", "b.png", "--output", "-"], "--output: - takes one picture, not those of 2"),
        *[
            (
                ["a.png", "--save", "cutout", "--background", background],
                f"error: --background: {background}: neither a colour",
            )
            for background in ("nonsense", "x" * 5000, "")
        ],
    ],
)
def test_wrong_usage_is_exit_status_2(arguments, said):
    done = predict(*arguments)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_machines_share_a_folder_by_shards_and_finish_what_was_stopped(tmp_path):
    photos, output = tmp_path / "photos", tmp_path / "output"
    for i in range(6):
        (photos / f"{i % 2}").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40)).save(photos / f"{i % 2}" / f"{i}.png")
    flags = "--output", output, "--weights", "small", "--skip-existing"
    counts = []
    for shard in ("1/3", "2/3", "3/3"):
        before = len(list(output.rglob("*.png")))
        done = predict(photos, *flags, "--shard", shard)
        counts.append(len(list(output.rglob("*.png"))) - before)
        assert done.returncode == 0 and f"{counts[-1]} of 6 are in this shard" in done.stderr
    assert sum(counts) == 6
    assert "6 of 6 were there already" in predict(photos, *flags).stderr


def test_inputs_that_cannot_be_are_exit_status_1(tmp_path):
    long = tmp_path / f"{'x' * 248}.png"
    Image.new("RGB", (9, 9)).save(long)
    inputs = ("https://example.org/a.jpg", tmp_path / "a\n.png", long, "y" * 300)
    done = predict(*inputs, "--output", tmp_path, "--save", "cutout")
    assert done.returncode == 1
    assert done.stderr.splitlines()[1:] == [
        "error: https://example.org/a.jpg: is a URL; download it and name the file",
        f"error: {tmp_path}/a\\n.png: does not exist",
        f"error: {tmp_path}/{'x' * 248}-cutout.png: cannot be written: File name too long",
        f"error: {'y' * 300}: cannot be read as an image: File name too long",
        f"0 of 4 done, in {tmp_path}",
    ]


@pytest.fixture
def many(tmp_path):
    """A folder of 80 photos that take a while."""
    folder = tmp_path / "many"
    folder.mkdir()
    photo = Image.open(CHELSEA).convert("RGB").resize((900, 600))
    photo.save(folder / "000.jpg")
    for i in range(1, 80):
        shutil.copy(folder / "000.jpg", folder / f"{i:03}.jpg")
    return folder


def interrupt(many, output, how):
    """Run the tool on `many`, send the signal `how` after some photos; (exit code, stderr)."""
    command = tool_command("predict", many, "--output", output, "--device", "cpu")
    # a background job of a shell ignores Ctrl-C, and would hand that down
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed) as process:
        give_up = time.monotonic() + 60
        while time.monotonic() < give_up and len(list(output.glob("*.png"))) < 3:
            time.sleep(0.005)
        process.send_signal(how)
        stderr = process.communicate(timeout=30)[1]
    return process.returncode, stderr


@pytest.mark.slow
def test_killed_in_the_middle_and_finished_by_skip_existing(many, tmp_path):
    output = tmp_path / "out"
    interrupt(many, output, signal.SIGKILL)
    before = {path: path.stat().st_mtime_ns for path in output.glob("*.png")}
    assert 3 <= len(before) < 80
    for path in before:
        assert read_mask(path).shape == (600, 900)
    done = predict(many, "--output", output, "--device", "cpu", "--skip-existing")
    assert done.returncode == 0, done.stderr
    assert len(list(output.glob("*.png"))) == 80
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())


def test_one_ctrl_c_is_enough(many, tmp_path):
    code, stderr = interrupt(many, tmp_path / "out", signal.SIGINT)
    assert code == 130 and "interrupted" in stderr and "Traceback" not in stderr
    assert {p.suffix for p in (tmp_path / "out").iterdir()} == {".png"}
    assert len(list((tmp_path / "out").iterdir())) < 80


def test_what_is_transparent_stays_so(predictor, tmp_path):
    """A cut-out is cut out again: its hole stays one, and its soft rim keeps its own colours."""
    image = read_image(CHELSEA)
    own = np.full(image.shape[:2], 255, "uint8")
    own[100:150, 150:200] = 0
    own[150:200, 150:200] = 128
    Image.fromarray(np.dstack([image, own])).save(tmp_path / "cut.png")
    mask, cut, overlay = pictures_of(
        predictor, tmp_path / "cut.png", tmp_path / "out", RenderOptions(KINDS)
    )
    cutout = pixels(cut)
    assert (cutout[..., 3] <= own).all() and cutout[..., 3].max() > 100
    np.testing.assert_array_equal(cutout[own > 0, :3], image[own > 0])
    assert (read_map(mask) <= own).all()
    assert read_image(overlay)[105:145, 155:195].min() > 240  # the hole lies over white


def test_a_photo_of_extreme_sides_does_not_cost_the_rest(predictor, photos, tmp_path):
    Image.new("1", (1, 1_100_000)).save(photos / "line.bmp")
    kinds = ("mask", "overlay")
    jobs = plan_jobs([str(photos)], tmp_path / "out", [ENDINGS[kind] for kind in kinds])
    (error,) = predict_jobs(predictor, jobs, RenderOptions(kinds), batch_size=3)
    assert "line-overlay.jpg: 1 x 1100000 pixels are too many for a JPEG file" in error
    assert read_mask(tmp_path / "out" / "line.png").shape == (1_100_000, 1)
    assert len(list((tmp_path / "out").rglob("*.jpg"))) == 6


def test_of_an_animation_the_first_picture_is_taken_and_said(tmp_path):
    frames = [Image.new("RGB", (40, 30), (90 * i, 60, 0)) for i in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "one.jpg")
    done = predict(tmp_path / "a.gif", tmp_path / "one.jpg", "--output", tmp_path / "out")
    assert done.returncode == 0
    said = [line for line in done.stderr.splitlines() if "pictures" in line]
    assert said == [f"{tmp_path}/a.gif: of 3 pictures the first is taken"]
