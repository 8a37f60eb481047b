"""Videos: same size, rate and length, what is in them, and what breaks."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.files import InputError
from SCFNet.prediction.jobs import plan_jobs
from SCFNet.prediction.pipeline import RenderOptions, predict_jobs
from SCFNet.prediction.rendering import ENDINGS
from SCFNet.prediction.video import GREEN, predict_video

ROOT = Path(__file__).resolve().parents[1]


def write_clip(path, count, shape=(48, 64)):
    """A bright square that moves to the right, a pixel every second frame."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 24, shape[::-1])
    for i in range(count):
        frame = np.full((*shape, 3), (120, 60, 20), "uint8")
        frame[10:30, i // 2 % 40 : i // 2 % 40 + 20] = (40, 200, 230)
        writer.write(frame)
    writer.release()
    return path


def read_clip(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        good, frame = capture.read()
        if not good:
            return np.array(frames), capture.get(cv2.CAP_PROP_FPS)
        frames.append(frame)


def bright(image, align_corners=False):
    """Stands in for a predictor: what is bright is the object."""
    return (image.astype("float32").mean(2) > 110).astype("float32")


def jobs_for(clip, output, *kinds):
    return plan_jobs([str(clip)], output, [ENDINGS[kind] for kind in kinds])


def test_every_kind_in_one_pass(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", 12)
    kinds = ("mask", "cutout", "overlay")
    assert (
        predict_jobs(bright, jobs_for(clip, tmp_path / "out", *kinds), RenderOptions(kinds)) == []
    )
    names = ["clip-cutout.mp4", "clip-overlay.mp4", "clip.mp4"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == names
    source = read_clip(clip)[0].astype(int)
    videos = {name: read_clip(tmp_path / "out" / name) for name in names}
    for frames, rate in videos.values():
        assert frames.shape == source.shape and rate == 24
    inside, outside = (0, 20, 10), (0, 40, 50)
    mask, cutout, overlay = (videos[n][0].astype(int) for n in (names[2], names[0], names[1]))
    assert mask[inside].min() > 230 and mask[outside].max() < 25
    assert np.abs(cutout[inside] - source[inside]).max() < 40
    assert np.abs(cutout[outside] - GREEN[0, 0]).max() < 40
    assert np.abs(overlay[outside] - source[outside]).max() < 40


def test_a_map_is_held_between_every_nth_frame(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", 10)
    seen = []

    def counting(image, align_corners):
        seen.append(image.shape)
        return np.full(image.shape[:2], len(seen) % 2, "float32")

    (job,) = jobs_for(clip, tmp_path / "out", "mask")
    predict_video(counting, job, RenderOptions(), every=4)
    assert len(seen) == 3
    frames = read_clip(job.targets[0])[0].mean((1, 2, 3))
    assert len(frames) == 10 and len(set((frames[:4] > 128).tolist())) == 1


def test_two_hundred_frames_through_the_command(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", 200)
    (tmp_path / "text.mp4").write_text("not a video")
    command = [sys.executable, str(ROOT / "tools" / "predict.py"), str(clip)]
    command += [str(tmp_path / "text.mp4"), "--output", str(tmp_path / "out"), "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and "200/200" in done.stderr
    errors = [line for line in done.stderr.splitlines() if "error" in line]
    assert errors == [f"error: {tmp_path}/text.mp4: cannot be read as a video"]
    frames, rate = read_clip(tmp_path / "out" / "clip.mp4")
    assert len(frames) == 200 and rate == 24


def test_broken_videos(tmp_path):
    whole = write_clip(tmp_path / "whole.avi", 40)
    data = whole.read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: len(data) // 2])
    (tmp_path / "cut.mp4").write_bytes(write_clip(tmp_path / "w.mp4", 9).read_bytes()[:500])
    (tmp_path / "empty.mkv").write_bytes(b"")
    for name, fault in (
        ("cut.mp4", "cannot be read as a video"),
        ("empty.mkv", "is empty"),
        ("gone.mov", "does not exist"),
        ("cut.avi", r"breaks off after \d+ of \d+ frames|cannot be read as a video"),
    ):
        (job,) = jobs_for(tmp_path / name, tmp_path / "out", "mask")
        with pytest.raises(InputError, match=rf"{name}: ({fault})"):
            predict_video(bright, job, RenderOptions())
    with pytest.raises(InputError, match="--crop is for photos"):
        predict_video(bright, job, RenderOptions(crop=True))


def test_a_failure_leaves_no_file(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", 30)
    calls = []

    def failing(image, align_corners):
        calls.append(1)
        if len(calls) > 5:
            raise InputError("no more")
        return bright(image)

    (job,) = jobs_for(clip, tmp_path / "out", "mask")
    with pytest.raises(InputError, match="no more"):
        predict_video(failing, job, RenderOptions())
    assert not list((tmp_path / "out").glob("*")) and len(calls) < 30
