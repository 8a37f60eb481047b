"""Videos that break off, are damaged or cannot be written: one line each, and no half a file."""

import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from SCFNet.errors import InputError
from SCFNet.prediction.jobs import plan_jobs
from SCFNet.prediction.marks import is_result
from SCFNet.prediction.rendering import RenderOptions
from SCFNet.prediction.video import predict_video
from tests.clips import av, predict_clip, read_clip, write_clip
from tests.conftest import Bright, predict, tool_command


def test_broken_videos_are_one_line(tmp_path):
    data = write_clip(tmp_path / "whole.mkv", 60, codec="h264").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    data = bytearray(write_clip(tmp_path / "whole.avi", 60).read_bytes())
    data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)
    (tmp_path / "hole.avi").write_bytes(data)
    data = write_clip(tmp_path / "whole.ts", 60, codec="mpeg2video").read_bytes()
    (tmp_path / "hole.ts").write_bytes(data[: 188 * 10] + data[188 * 20 :])  # whole packets
    (tmp_path / "cut.mp4").write_bytes(write_clip(tmp_path / "w.mp4", 9).read_bytes()[:500])
    (tmp_path / "empty.mkv").write_bytes(b"")
    (tmp_path / "list.mp4").write_text(f"#EXTM3U\n#EXTINF:1,\n{tmp_path}/w.mp4\n#EXT-X-ENDLIST\n")
    write_clip(tmp_path / "sound.mp4", 1, sound="aac")
    for name, fault in (
        ("cut.mkv", r"breaks off after \d\.\d of 2\.5 s"),
        ("hole.avi", r"is damaged|breaks off"),
        ("hole.ts", r"is damaged in \d places"),
        ("cut.mp4", "cannot be read as a video"),
        ("empty.mkv", "is empty"),
        ("list.mp4", "cannot be read as a video"),
        ("gone.mov", "does not exist"),
    ):
        with pytest.raises(InputError, match=rf"{name}: ({fault})"):
            predict_clip(tmp_path / name, tmp_path / "out")
    assert 0 < len(read_clip(tmp_path / "out" / "cut.mkv-overlay.mp4")[0]) < 60
    with pytest.raises(InputError, match="crop is for photos"):
        predict_clip(tmp_path / "whole.mkv", tmp_path / "out", crop=True)


@pytest.mark.parametrize("format", ["mp4", "mov", "webm"])
def test_a_partial_result_is_never_done_and_replaces_no_whole_one(tmp_path, format):
    clip, made = tmp_path / "clip.mkv", tmp_path / "out" / f"clip.{format}"
    whole = write_clip(clip, 60, codec="h264").read_bytes()
    flags = "--output", made.parent, "--format", format, "--every", 60, "--skip-existing"
    clip.write_bytes(whole[: len(whole) // 2])
    for _ in range(2):
        done = predict(clip, *flags)
        assert done.returncode == 1 and re.search(r"breaks off after .* s$", done.stderr.strip())
        assert 0 < len(read_clip(made)[0]) < 60 and is_result(made)
    clip.write_bytes(whole)
    assert [predict(clip, *flags).returncode for _ in range(2)] == [0, 0]
    assert len(read_clip(made)[0]) == 60
    kept = made.read_bytes()
    clip.write_bytes(whole[: len(whole) // 2])
    done = predict(clip, *flags)
    assert done.returncode == 1 and done.stderr.strip().endswith(f"; {made} stays as it was")
    assert made.read_bytes() == kept and len(list(made.parent.iterdir())) == 1


def test_a_failure_leaves_no_file(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", 30)
    calls = []

    class Failing(Bright):
        def maps(self, images):
            calls.append(1)
            if len(calls) > 5:
                raise InputError("no more")
            return super().maps(images)

    (job,) = plan_jobs([str(clip)], tmp_path / "out", [".png"])
    with pytest.raises(InputError, match="no more"):
        predict_video(Failing(), job, RenderOptions())
    assert not list((tmp_path / "out").glob("*")) and len(calls) < 30


def test_a_full_disk_is_one_line_and_no_file(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", 20, shape=(480, 640))
    flags = "--every", 60, "--output", tmp_path / "out", "--save", "overlay"
    done = subprocess.run(
        tool_command("predict", clip, *flags),
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, 4_000)),
    )
    assert done.returncode == 1 and not list((tmp_path / "out").iterdir())
    assert done.stderr.splitlines()[-1].endswith(
        "clip-overlay.mp4: cannot be written: File too large"
    )


def test_a_file_that_lacks_frames_takes_no_place(tmp_path, monkeypatch):
    clip = write_clip(tmp_path / "clip.mp4", 12)
    original = av.open

    def open_cut(stream, *arguments, **options):
        """Lose the end of what was written, as a disk may do without a word."""
        if stream.name.endswith(".tmp") and not arguments:
            os.truncate(stream.name, 1000)
        return original(stream, *arguments, **options)

    monkeypatch.setattr(av, "open", open_cut)
    with pytest.raises(InputError, match=r"clip-overlay\.mp4: cannot be written|as a video"):
        predict_clip(clip, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_names_that_are_not_utf_8_work(tmp_path):
    clip = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4"))
    shutil.copy(write_clip(tmp_path / "clip.mp4"), clip)
    made = predict_clip(clip, Path(os.fsdecode(os.fsencode(tmp_path) + b"/dir\xe9")))
    with made.open("rb") as stream, av.open(stream) as container:
        assert len(list(container.decode(video=0))) == 12


def test_without_pyav_photos_are_predicted_and_videos_name_it(tmp_path, monkeypatch):
    clip = write_clip(tmp_path / "clip.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"clip\.mp4: videos need PyAV: pip install av"):
        predict_clip(clip, tmp_path / "out")


def test_a_file_that_is_no_video_does_not_cost_the_others(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", 50)
    (tmp_path / "text.mp4").write_text("not a video")
    inputs = clip, tmp_path / "text.mp4", "--every", 10
    done = predict(*inputs, "--output", tmp_path / "out")
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if "error" in line]
    assert errors == [f"error: {tmp_path}/text.mp4: cannot be read as a video"]
    assert read_clip(tmp_path / "out" / "clip.mp4")[0].shape == (50, 48, 64, 3)
