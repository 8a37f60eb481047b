"""Videos: the same size, times, colours and sound as the source, and what breaks."""

import os
import resource
import shutil
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from datasets.files import InputError
from SCFNet.prediction.jobs import has_results, plan_jobs
from SCFNet.prediction.pipeline import predict_jobs
from SCFNet.prediction.rendering import ENDINGS, RenderOptions
from SCFNet.prediction.video import GREEN, predict_video
from SCFNet.prediction.video_reading import VideoReader
from tests.conftest import run_tool, tool_command

av = pytest.importorskip("av")


def frame_at(i, shape=(48, 64)):
    """A bright square that moves to the right, a pixel every second frame; RGB."""
    frame = np.full((*shape, 3), (20, 60, 120), "uint8")
    frame[10:30, i // 2 % 40 : i // 2 % 40 + 20] = (230, 200, 40)
    return frame


def write_clip(path, count=12, times=None, shape=(48, 64), codec="mpeg4", sound=None, **settings):
    """A video of `frame_at`, shown at `times` in milliseconds, by default 24 a second."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=24)
        video.height, video.width = shape
        video.pix_fmt = "yuv444p" if shape[0] % 2 or shape[1] % 2 else "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000 if times else 24)
        for name, value in settings.items():
            setattr(video.codec_context, name, value)
        audio = sound and container.add_stream(sound, rate=44100, layout="stereo")
        for i, time in enumerate(times or range(count)):
            frame = av.VideoFrame.from_ndarray(frame_at(i, shape), "rgb24")
            frame.pts, frame.time_base = time, video.codec_context.time_base
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if audio:
            wave = (8000 * np.sin(np.arange(22050) / 16)).astype("int16").repeat(2)[None]
            tone = av.AudioFrame.from_ndarray(wave, "s16", "stereo")
            tone.sample_rate, tone.pts = 44100, 0
            codec = audio.codec_context
            samples = codec.frame_size or 1024
            for frame in av.AudioResampler(codec.format, "stereo", 44100, samples).resample(tone):
                container.mux(audio.encode(frame))
            container.mux(audio.encode())
    return path


def read_clip(path):
    """The frames of a video, RGB uint8 [N, H, W, 3], and their times in seconds."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return np.array([f.to_ndarray(format="rgb24") for f in frames]), [f.time for f in frames]


def seconds(path):
    with av.open(str(path)) as container:
        return container.duration / 1e6


def sound_of(path):
    """The coding of a video's sound, and its packets."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        return stream.codec_context.name, [bytes(p) for p in container.demux(stream) if p.size]


def patch(path, box, offset, format, *values):
    """Write numbers into a box of an MP4 file, `offset` bytes behind its name."""
    data = bytearray(path.read_bytes())
    struct.pack_into(format, data, data.index(box) + len(box) + offset, *values)
    path.write_bytes(data)
    return path


def bright(image, align_corners=False):
    """Stands in for a predictor: what is bright is the object."""
    return (image.astype("float32").mean(2) > 110).astype("float32")


def predict_clip(clip, output, kind="overlay", **options):
    """The video that is made of `clip`."""
    (job,) = plan_jobs([str(clip)], output, [ENDINGS[kind]])
    predict_video(bright, job, RenderOptions((kind,), **options))
    return job.targets[0]


def test_every_kind_in_one_pass(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4")
    kinds = ("mask", "cutout", "overlay")
    jobs = plan_jobs([str(clip)], tmp_path / "out", [ENDINGS[kind] for kind in kinds])
    assert predict_jobs(bright, jobs, RenderOptions(kinds)) == []
    names = ["clip.mp4", "clip-cutout.mp4", "clip-overlay.mp4"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(names)
    source, times = read_clip(clip)
    source = source.astype(int)
    pictures = []
    for name in names:
        frames, own_times = read_clip(tmp_path / "out" / name)
        assert frames.shape == source.shape and own_times == times
        with av.open(str(tmp_path / "out" / name)) as container:
            codec = container.streams.video[0].codec_context
            assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")  # what browsers play
        pictures.append(frames.astype(int))
    inside, outside = (0, 20, 10), (0, 40, 50)
    mask, cutout, overlay = pictures
    assert mask[inside].min() > 230 and mask[outside].max() < 25
    assert np.abs(cutout[inside] - source[inside]).max() < 40
    assert np.abs(cutout[outside] - GREEN[0, 0]).max() < 40
    assert np.abs(overlay[outside] - source[outside]).max() < 40
    assert has_results(jobs[0])


def test_a_map_is_held_between_every_nth_frame(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", 10)
    seen = []

    def counting(image, align_corners):
        seen.append(image.shape)
        return np.full(image.shape[:2], len(seen) % 2, "float32")

    (job,) = plan_jobs([str(clip)], tmp_path / "out", [".png"])
    predict_video(counting, job, RenderOptions(), every=4)
    assert len(seen) == 3
    frames = read_clip(job.targets[0])[0].mean((1, 2, 3))
    assert len(frames) == 10 and len(set((frames[:4] > 128).tolist())) == 1


@pytest.mark.parametrize("name", ["clip.mkv", "clip.webm", "clip.mp4"])
def test_a_variable_rate_is_kept(tmp_path, name):
    times = [0, 17, 33, 50, 67, 567, 1067, 3000, 3017]
    codec = "libvpx" if name.endswith("webm") else "h264"
    clip = write_clip(tmp_path / name, times=times, codec=codec, max_b_frames=0)
    made = predict_clip(clip, tmp_path / "out")
    np.testing.assert_allclose(read_clip(made)[1], read_clip(clip)[1], atol=1e-3)
    assert abs(seconds(made) - seconds(clip)) < 0.07


def test_a_trimmed_video_shows_what_its_edit_list_shows(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", 30, codec="h264")
    patch(clip, b"elst", 8, ">I", 500)  # milliseconds: the first half second is shown
    assert len(read_clip(clip)[0]) == 12
    made = predict_clip(clip, tmp_path / "out")
    assert len(read_clip(made)[0]) == 12 and abs(seconds(made) - 0.5) < 0.02


def test_an_anamorphic_video_keeps_its_shape(tmp_path):
    ratio = Fraction(2, 1)
    clip = write_clip(tmp_path / "clip.mp4", codec="h264", sample_aspect_ratio=ratio)
    with av.open(str(predict_clip(clip, tmp_path / "out"))) as container:
        assert container.streams.video[0].sample_aspect_ratio == ratio


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
        ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
        ((0, -1, 1, 0), lambda image: np.rot90(image, 1)),
        ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
        ((0, 1, 1, 0), lambda image: image.swapaxes(0, 1)),
    ],
)
def test_a_phones_video_is_upright(tmp_path, matrix, turn):
    clip = write_clip(tmp_path / "clip.mp4", 2)
    expected = turn(read_clip(clip)[0][0])
    a, b, c, d = (value * 0x10000 for value in matrix)
    patch(clip, b"tkhd", 40, ">5i", a, b, 0, c, d)
    reader = VideoReader(clip)
    image = next(iter(reader)).image
    reader.close()
    assert image.shape[:2] == reader.shape
    np.testing.assert_allclose(image, expected, atol=3)
    assert read_clip(predict_clip(clip, tmp_path / "out"))[0][0].shape == expected.shape


@pytest.mark.parametrize("name", ["clip.mp4", "clip.ts", "clip.mkv", "clip.avi"])
@pytest.mark.parametrize("sound", ["aac", "libmp3lame"])
def test_the_sound_is_copied(tmp_path, name, sound):
    clip = write_clip(tmp_path / name, sound=sound)
    made = predict_clip(clip, tmp_path / "out")
    coding, packets = sound_of(made)
    assert coding == sound_of(clip)[0]
    # in a transport stream each packet of AAC has a header of 7 bytes
    headers = 7 if (name, sound) == ("clip.ts", "aac") else 0
    assert packets == [packet[headers:] for packet in sound_of(clip)[1]]
    shift = read_clip(clip)[1][0] - read_clip(made)[1][0]
    assert 0 <= shift < 2  # a transport stream's clock begins anywhere
    assert abs(seconds(made) - seconds(clip)) < 0.05


@pytest.mark.parametrize("name", ["clip.mov", "clip.avi", "clip.mkv"])
def test_sound_that_mp4_does_not_know_becomes_aac(tmp_path, name):
    clip = write_clip(tmp_path / name, sound="pcm_s16le")
    made = predict_clip(clip, tmp_path / "out")
    with av.open(str(made)) as container:
        wave = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    assert abs(len(wave) / 44100 - 0.5) < 0.06
    assert sound_of(made)[0] == "aac" and 0.2 < np.abs(wave[5000:15000]).max() < 0.3


@pytest.mark.parametrize(
    ("name", "codec"), [("clip.3gp", "mpeg4"), ("clip.wmv", "wmv2"), ("clip.ts", "h264")]
)
def test_other_containers(tmp_path, name, codec):
    clip = write_clip(tmp_path / name, codec=codec)
    frames, times = read_clip(predict_clip(clip, tmp_path / "out"))
    assert len(frames) == 12 and times[0] == 0
    np.testing.assert_allclose(np.diff(times), 1 / 24, atol=1e-3)


@pytest.mark.parametrize("shape", [(47, 63), (48, 63), (2, 2)])
def test_odd_sizes_are_kept(tmp_path, shape):
    clip = write_clip(tmp_path / "clip.mkv", 3, shape=shape, codec="ffv1")
    assert read_clip(predict_clip(clip, tmp_path / "out"))[0].shape == (3, *shape, 3)


@pytest.mark.parametrize("space", [1, 5, 2])  # BT.709, BT.601, none said
@pytest.mark.parametrize("range_", [1, 2])  # limited, full
def test_colours_are_those_of_the_source(tmp_path, space, range_):
    """The frame is given in YUV, so that what its numbers mean is known."""
    red, green, blue = 200, 40, 60
    kr, kb = (0.2126, 0.0722) if space == 1 else (0.299, 0.114)
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    chroma = (blue - luma) / (2 - 2 * kb), (red - luma) / (2 - 2 * kr)
    scale, offset = (1, 0) if range_ == 2 else (219 / 255, 16)
    chroma_scale = 1 if range_ == 2 else 224 / 255
    planes = [luma * scale + offset, *(128 + c * chroma_scale for c in chroma)]
    with av.open(str(tmp_path / "clip.mkv"), "w") as container:
        video = container.add_stream("ffv1", rate=24)
        video.height, video.width, video.pix_fmt = 48, 64, "yuv444p"
        codec = video.codec_context
        codec.colorspace, codec.color_range = space, range_
        array = np.array(planes).round().astype("uint8")[:, None, None] + np.zeros(
            (48, 64), "uint8"
        )
        frame = av.VideoFrame.from_ndarray(array, "yuv444p")
        frame.pts, frame.colorspace, frame.color_range = 0, space, range_
        container.mux([*video.encode(frame), *video.encode()])
    reader = VideoReader(tmp_path / "clip.mkv")
    image = next(iter(reader)).image
    reader.close()
    np.testing.assert_allclose(image[20, 20], (red, green, blue), atol=4)
    made = predict_clip(tmp_path / "clip.mkv", tmp_path / "out")
    reader = VideoReader(made)
    again = next(iter(reader)).image
    reader.close()
    np.testing.assert_allclose(again[40, 60], (red, green, blue), atol=6)


def test_videos_through_the_command(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", 50)
    (tmp_path / "text.mp4").write_text("not a video")
    inputs = clip, tmp_path / "text.mp4", "--every", 10
    done = run_tool("predict", *inputs, "--output", tmp_path / "out", "--device", "cpu")
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if "error" in line]
    assert errors == [f"error: {tmp_path}/text.mp4: cannot be read as a video"]
    assert read_clip(tmp_path / "out" / "clip.mp4")[0].shape == (50, 48, 64, 3)


def test_broken_videos(tmp_path):
    data = write_clip(tmp_path / "whole.mkv", 60, codec="h264").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    data = bytearray(write_clip(tmp_path / "whole.avi", 60).read_bytes())
    data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)
    (tmp_path / "hole.avi").write_bytes(data)
    (tmp_path / "cut.mp4").write_bytes(write_clip(tmp_path / "w.mp4", 9).read_bytes()[:500])
    (tmp_path / "empty.mkv").write_bytes(b"")
    (tmp_path / "list.mp4").write_text(f"#EXTM3U\n#EXTINF:1,\n{tmp_path}/w.mp4\n#EXT-X-ENDLIST\n")
    write_clip(tmp_path / "sound.mp4", 1, sound="aac")
    for name, fault in (
        ("cut.mkv", r"breaks off after \d\.\d of 2\.5 s"),
        ("hole.avi", r"is damaged|breaks off"),
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


def test_a_failure_leaves_no_file(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", 30)
    calls = []

    def failing(image, align_corners):
        calls.append(1)
        if len(calls) > 5:
            raise InputError("no more")
        return bright(image)

    (job,) = plan_jobs([str(clip)], tmp_path / "out", [".png"])
    with pytest.raises(InputError, match="no more"):
        predict_video(failing, job, RenderOptions())
    assert not list((tmp_path / "out").glob("*")) and len(calls) < 30


def test_a_full_disk_is_one_line_and_no_file(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", 60, shape=(480, 640))
    done = subprocess.run(
        tool_command(
            "predict", clip, "--every", 60, "--output", tmp_path / "out", "--save", "overlay"
        ),
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)),
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


def test_names_that_are_not_utf_8(tmp_path):
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
