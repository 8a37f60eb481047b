"""Videos with an alpha channel: what is transparent stays out of every result."""

from fractions import Fraction

import numpy as np
import pytest

from SCFNet.prediction.marks import is_result
from tests.clips import (
    av,
    predict_clip,
    predict_kinds,
    read_alpha,
    read_clip,
    seconds,
    sound_of,
    write_clip,
)

VPX = {"auto-alt-ref": "0"}  # which has no transparency
CODINGS = [
    ("clip.mov", "qtrle", "argb", {}),
    ("clip.mov", "prores_ks", "yuva444p10le", {}),
    ("clip.mov", "png", "rgba", {}),
    ("clip.mkv", "ffv1", "yuva420p", {}),
    ("clip.webm", "libvpx", "yuva420p", VPX),
    ("clip.webm", "libvpx-vp9", "yuva420p", VPX),
]
RIGHT = np.zeros((48, 64), "uint8")
RIGHT[:, 16:] = 255  # the bright square lies on both sides
BLUE = np.array([0, 0, 255], "uint8").reshape(1, 1, 3)


@pytest.mark.parametrize(("name", "codec", "pixels", "options"), CODINGS)
def test_what_is_transparent_stays_out(tmp_path, name, codec, pixels, options):
    settings = {"codec": codec, "pixels": pixels, "options": options, "bit_rate": 2_000_000}
    clip = write_clip(tmp_path / name, alpha=RIGHT, **settings)
    made = predict_kinds(clip, tmp_path / "out", ["mask", "cutout", "overlay"], background=BLUE)
    mask, cutout, overlay = (read_clip(path)[0] for path in made)
    assert len(mask) == 12
    assert mask[:, :, :13].max() < 25 and mask[0, 12:28, 18].min() > 200
    np.testing.assert_allclose(cutout[:, :, :13], np.broadcast_to(BLUE, (12, 48, 13, 3)), atol=25)
    np.testing.assert_allclose(cutout[9, 14:26, 18], [(230, 200, 40)] * 12, atol=40)
    if codec == "qtrle":
        alpha = read_alpha(predict_clip(clip, tmp_path / "out", "cutout"))[0][..., 3]
        assert alpha[:, :, :13].max() < 15 and alpha[0, 12:28, 18].min() > 240
    assert overlay[:, :, :12].min() > 225  # white
    clip = write_clip(tmp_path / name, alpha=np.full_like(RIGHT, 255), **settings)
    mask = read_clip(predict_clip(clip, tmp_path / "full", "mask"))[0]
    assert mask[0, 12:28, 2:18].min() > 200 and mask[0, 34:].max() < 25


@pytest.mark.parametrize(
    ("name", "codec", "coding", "shape"),
    [
        ("clip.mp4", "h264", "aac", (48, 64)),
        ("clip.mkv", "ffv1", "pcm_s16le", (47, 63)),
        ("clip.webm", "libvpx-vp9", "libopus", (48, 64)),
    ],
)
@pytest.mark.parametrize("format", ["", "mov"])
def test_a_cut_out_is_transparent(tmp_path, name, codec, coding, shape, format):
    clip = write_clip(tmp_path / name, 30, codec=codec, shape=shape, sound=coding)
    made = predict_clip(clip, tmp_path / "out", "cutout", format)
    assert made.suffix == (".mov" if format else ".webm")
    source, times = read_clip(clip)
    frames, own_times = read_alpha(made)
    assert frames.shape == (30, *shape, 4)
    own_times = np.array(own_times) - own_times[0]  # at which the sound may need a running start
    np.testing.assert_allclose(own_times, np.array(times) - times[0], atol=1e-3)
    assert frames[0, 12:28, 2:18, 3].min() > 240 and frames[0, 34:, :, 3].max() < 15
    np.testing.assert_allclose(frames[0, 20, 10, :3], source[0, 20, 10], atol=25)
    assert sound_of(made)[0] == ("aac" if format else "opus")
    assert abs(seconds(made) - seconds(clip)) < 0.07
    assert is_result(made)


@pytest.mark.parametrize(
    ("format", "kind", "codec"),
    [("webm", "mask", "vp9"), ("mov", "overlay", "h264"), ("webm", "cutout", "vp9")],
)
def test_other_kinds_take_the_format_too(tmp_path, format, kind, codec):
    clip = write_clip(tmp_path / "clip.mp4", sound="libmp3lame")
    options = {"background": BLUE} if kind == "cutout" else {}
    made = predict_clip(clip, tmp_path / "out", kind, format, **options)
    assert made.suffix == f".{format}" and read_clip(made)[0].shape == (12, 48, 64, 3)
    with av.open(str(made)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == (codec, "yuv420p")


@pytest.mark.parametrize(("format", "shape"), [("webm", (48, 128)), ("mov", (48, 64))])
def test_a_transparent_cut_out_is_as_wide_as_its_source(tmp_path, format, shape):
    clip = write_clip(tmp_path / "clip.mp4", codec="h264", sample_aspect_ratio=Fraction(2, 1))
    made = predict_clip(clip, tmp_path / "out", "cutout", format)
    frames, _ = read_alpha(made)
    assert frames.shape == (12, *shape, 4)
    with av.open(str(made)) as container:
        ratio = container.streams.video[0].sample_aspect_ratio or 1
    assert shape[1] * ratio == 128
