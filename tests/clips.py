"""Small videos for the tests: writing them, reading them, and predicting them without a network."""

import struct
from contextlib import ExitStack
from fractions import Fraction

import numpy as np
import pytest

from SCFNet.prediction.jobs import plan_jobs
from SCFNet.prediction.rendering import ENDINGS, RenderOptions, name_video_endings
from SCFNet.prediction.video import predict_video
from SCFNet.prediction.video_reading import VideoReader
from tests.conftest import bright

av = pytest.importorskip("av")
DEFAULT = 1  # FFmpeg's flag of a track


def frame_at(i, shape=(48, 64)):
    """A bright square that moves to the right, a pixel every second frame; RGB."""
    frame = np.full((*shape, 3), (20, 60, 120), "uint8")
    frame[10:30, i // 2 % 40 : i // 2 % 40 + 20] = (230, 200, 40)
    return frame


def square_frames(count, times, shape, alpha):
    """PyAV's frames of `frame_at`, shown at `times` in milliseconds, by default 24 a second."""
    for i, time in enumerate(times or range(count)):
        image = frame_at(i, shape)
        pixels = image if alpha is None else np.dstack([image, alpha])
        frame = av.VideoFrame.from_ndarray(pixels, "rgb24" if alpha is None else "rgba")
        frame.pts, frame.time_base = time, Fraction(1, 1000 if times else 24)
        yield frame


def write_clip(
    path,
    count=12,
    times=None,
    shape=(48, 64),
    codec="mpeg4",
    sound=None,
    pixels="yuv420p",
    alpha=None,
    options=None,
    tracks=((None, None, False),),
    frames=None,
    rate=24,
    **settings,
):
    """A video of `frames`, PyAV's of `shape`, by default `square_frames` with `alpha`, uint8
    [H, W]. `tracks` of `sound` have a language, a title, and the default flag or not.
    """
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=rate, options=options or {})
        video.height, video.width = shape
        video.pix_fmt = "yuv444p" if shape[0] % 2 or shape[1] % 2 else pixels
        video.codec_context.time_base = Fraction(1, 1000 if times else rate)
        for name, value in settings.items():
            setattr(video.codec_context, name, value)
        heard = [_add_track(container, sound, *track) for track in tracks if sound]
        for frame in (*(frames or square_frames(count, times, shape, alpha)), None):
            container.mux(video.encode(frame))
        for audio in heard:
            wave = (8000 * np.sin(np.arange(22050) / 16)).astype("int16").repeat(2)[None]
            tone = av.AudioFrame.from_ndarray(wave, "s16", "stereo")
            tone.sample_rate, tone.pts = 44100, 0
            codec = audio.codec_context
            samples = codec.frame_size or 1024
            resampler = av.AudioResampler(codec.format, "stereo", codec.sample_rate, samples)
            for frame in (*resampler.resample(tone), None):
                container.mux(audio.encode(frame))
    return path


def _add_track(container, sound, language, title, is_default):
    rate = 48000 if sound == "libopus" else 44100
    audio = container.add_stream(sound, rate=rate, layout="stereo")
    if language:
        audio.metadata.update({"language": language, "title": title or ""})
        audio.disposition = DEFAULT * is_default
    return audio


def read_clip(path):
    """The frames of a video, RGB uint8 [N, H, W, 3], and their times in seconds."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return np.array([f.to_ndarray(format="rgb24") for f in frames]), [f.time for f in frames]


def first_frame(path):
    """The first frame as predicting gets it, RGB uint8 [H, W, 3]."""
    with ExitStack() as stack:
        return next(iter(VideoReader(path, stack))).photo.image


def read_alpha(path):
    """The frames of a transparent video, RGBA uint8 [N, H, W, 4], and their times in seconds."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        vp9 = stream.codec_context.name == "vp9"
        decoder = av.CodecContext.create("libvpx-vp9", "r") if vp9 else stream.codec_context
        frames = [f for packet in container.demux(stream) for f in decoder.decode(packet)]
    assert all(f.format.name.startswith("yuva") for f in frames)
    return np.array([f.to_ndarray(format="rgba") for f in frames]), [f.time for f in frames]


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


def predict_kinds(clip, output, kinds, format="", **options):
    """The videos that are made of `clip` in one pass."""
    endings = name_video_endings(kinds, format, "background" in options)
    (job,) = plan_jobs([str(clip)], output, [ENDINGS[kind] for kind in kinds], (), endings)
    predict_video(bright, job, RenderOptions(kinds, **options))
    return job.targets


def predict_clip(clip, output, kind="overlay", format="", **options):
    """The video that is made of `clip`."""
    return predict_kinds(clip, output, [kind], format, **options)[0]
