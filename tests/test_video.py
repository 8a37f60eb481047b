"""Videos: the same size, times and colours as the source, in every kind of picture."""

from fractions import Fraction

import numpy as np
import pytest

from SCFNet.prediction.jobs import has_results, plan_jobs
from SCFNet.prediction.pipeline import predict_jobs
from SCFNet.prediction.rendering import ENDINGS, RenderOptions
from SCFNet.prediction.video import GREEN, predict_video
from tests.clips import av, first_frame, patch, predict_clip, read_clip, seconds, write_clip
from tests.conftest import CHELSEA, Bright, bright, predict


def test_all_kinds_of_pictures_come_from_one_pass(tmp_path):
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

    class Counting(Bright):
        def maps(self, images):
            seen.append(images[0].shape)
            return [np.full(images[0].shape[:2], len(seen) % 2, "float32")]

    (job,) = plan_jobs([str(clip)], tmp_path / "out", [".png"])
    predict_video(Counting(), job, RenderOptions(), every=4)
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


def test_a_clock_that_does_not_begin_at_zero_is_no_damage(tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", times=[10000, 10040, 10080])
    assert read_clip(predict_clip(clip, tmp_path / "out"))[1] == [0, 0.04, 0.08]


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
    image = first_frame(clip)
    np.testing.assert_allclose(image, expected, atol=3)
    assert read_clip(predict_clip(clip, tmp_path / "out"))[0][0].shape == expected.shape


@pytest.mark.parametrize(
    ("name", "codec"), [("clip.3gp", "mpeg4"), ("clip.wmv", "wmv2"), ("clip.ts", "h264")]
)
def test_other_containers_read(tmp_path, name, codec):
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
    array = np.full((48, 64, 3), np.round(planes), "uint8").transpose(2, 0, 1).copy()
    frame = av.VideoFrame.from_ndarray(array, "yuv444p")
    frame.pts, frame.colorspace, frame.color_range = 0, space, range_
    settings = {"pixels": "yuv444p", "colorspace": space, "color_range": range_}
    clip = write_clip(tmp_path / "clip.mkv", codec="ffv1", frames=[frame], **settings)
    np.testing.assert_allclose(first_frame(clip)[20, 20], (red, green, blue), atol=4)
    made = predict_clip(clip, tmp_path / "out")
    np.testing.assert_allclose(first_frame(made)[40, 60], (red, green, blue), atol=6)


def test_photos_are_not_made_again_for_another_every(tmp_path):
    """How many frames have a map is nothing to the photo beside the video."""
    inputs = write_clip(tmp_path / "clip.mp4"), CHELSEA
    flags = "--output", tmp_path / "out", "--weights", "small", "--skip-existing", "--every"
    for every, last in (
        (1, f"2 of 2 done, in {tmp_path}/out"),
        (2, f"written: {tmp_path}/out/clip.mp4"),
        (2, "nothing to do"),
    ):
        done = predict(*inputs, *flags, every)
        assert done.returncode == 0 and done.stderr.splitlines()[-1] == last
