"""HDR and interlaced videos: the colours become BT.709, and two fields one picture."""

from fractions import Fraction

import numpy as np
import pytest

from SCFNet.prediction.deinterlacing import deinterlaced
from tests.clips import av, first_frame, predict_clip, predict_kinds, read_clip, write_clip
from tests.colours import TO_2020, hlg, light_of, pq, srgb

GOLD, NAVY, WHITE = (230, 200, 40), (20, 60, 120), (255, 255, 255)
PQ, HLG = 16, 18


def scene(shape=(48, 64)):
    image = np.full((*shape, 3), NAVY, "uint8")
    image[10:30, 8:28], image[10:30, 40:60] = GOLD, WHITE
    return image


def hdr_code(transfer, wide=True):
    """`scene` in PQ or HLG, in BT.2020 if `wide`."""
    light = light_of(scene())
    return (pq if transfer == PQ else hlg)(light @ TO_2020.T if wide else light)


def write_hdr_clip(path, code, codec, pixels, transfer, primaries):
    """Two frames of `code` [H, W, 3] in [0, 1], as YUV of BT.2020 in 10 bits."""
    red, green, blue = code.transpose(2, 0, 1)
    luma = 0.2627 * red + 0.678 * green + 0.0593 * blue
    chroma = (blue - luma) / 1.8814, (red - luma) / 1.4746
    planes = [luma * 876 + 64, *(512 + 896 * plane for plane in chroma)]
    if pixels.startswith("yuv420"):
        planes[1:] = [plane[::2, ::2] for plane in planes[1:]]
    frames = [av.VideoFrame(code.shape[1], code.shape[0], pixels) for _ in range(2)]
    for time, frame in enumerate(frames):
        for plane, values in zip(frame.planes, planes):
            padded = np.zeros((plane.height, plane.line_size // 2), "<u2")
            padded[:, : plane.width] = np.rint(values)
            plane.update(padded.tobytes())
        frame.pts, frame.colorspace, frame.color_range = time, 9, 1
    options = {"crf": "8"} if codec == "libx264" else {}
    return write_clip(
        path,
        codec=codec,
        pixels=pixels,
        options=options,
        frames=frames,
        colorspace=9,
        color_range=1,
        color_primaries=primaries,
        color_trc=transfer,
    )


@pytest.mark.parametrize("transfer", [PQ, HLG])
@pytest.mark.parametrize(
    ("name", "codec", "pixels", "primaries"),
    [
        ("clip.mp4", "libx264", "yuv420p10le", 9),
        ("clip.mkv", "ffv1", "yuv444p10le", 9),
        ("clip.mkv", "libx264", "yuv420p10le", 1),
    ],
)
def test_hdr_becomes_bt_709(tmp_path, transfer, name, codec, pixels, primaries):
    code = hdr_code(transfer, primaries == 9)
    clip = write_hdr_clip(tmp_path / name, code, codec, pixels, transfer, primaries)
    image = first_frame(clip)
    spots = (20, 20), (40, 50), (20, 50)
    for spot, color in zip(spots, (GOLD, NAVY, WHITE)):
        np.testing.assert_allclose(image[spot].astype(int), color, atol=20)
    kinds = {"overlay": ((40, 50), NAVY), "cutout": ((20, 20), GOLD), "mask": ((20, 20), WHITE)}
    made = predict_kinds(clip, tmp_path / "out", list(kinds), "mp4")
    for path, (spot, color) in zip(made, kinds.values()):
        assert _tags(path) == (1, 1, 1)
        np.testing.assert_allclose(read_clip(path)[0][0][spot].astype(int), color, atol=40)


def test_what_is_brighter_than_white_is_white(tmp_path):
    code = hdr_code(PQ)
    code[:, 40:] = 0.9  # 3900 cd/m2
    clip = write_hdr_clip(tmp_path / "clip.mkv", code, "ffv1", "yuv444p10le", PQ, 9)
    image = first_frame(clip)
    assert image[:, 42:].min() == 255


def test_wide_colours_that_are_not_hdr_become_bt_709(tmp_path):
    code = srgb(light_of(scene()) @ TO_2020.T)
    clip = write_hdr_clip(tmp_path / "clip.mkv", code, "ffv1", "yuv444p10le", 14, 9)
    image = first_frame(clip)
    np.testing.assert_allclose(image[20, 20].astype(int), GOLD, atol=12)


def _tags(path):
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context
        return int(codec.colorspace), int(codec.color_primaries), int(codec.color_trc)


def bar_at(time, shape=(48, 96)):
    """A bright bar of 16 pixels that moves 4 to the right in every field; RGB."""
    frame = np.full((*shape, 3), NAVY, "uint8")
    frame[:, 4 * time : 4 * time + 16] = GOLD
    return frame


def field_marker(first, pixels, time_base):
    """A filter that marks frames [48, 96] as interlaced, 'tff' or 'bff', or as not ('prog')."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=96, height=48, format=pixels, time_base=time_base)
    marked, sink = graph.add("setfield", first), graph.add("buffersink")
    source.link_to(marked)
    marked.link_to(sink)
    graph.configure()
    return graph


def write_fields(path, codec, first):
    """An interlaced video of `bar_at`; the even lines are the earlier ones if `first` is 'tff'."""
    graph = field_marker(first, "yuv420p", Fraction(1, 25))
    marked = []
    for i in range(8):
        image = bar_at(2 * i)
        image[(first == "tff") :: 2] = bar_at(2 * i + 1)[(first == "tff") :: 2]
        planes = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format="yuv444p").to_ndarray()
        # each field has its own chroma
        chroma = planes[1:].reshape(2, 12, 2, 2, 96)[:, :, 0].reshape(2, 24, 96)[..., ::2]
        planes = np.concatenate([planes[0].ravel(), chroma.ravel()]).reshape(72, 96)
        frame = av.VideoFrame.from_ndarray(planes, "yuv420p")
        frame.pts, frame.time_base = i, Fraction(1, 25)
        graph.push(frame)
        marked.append(graph.pull())
    settings = {"max_b_frames": 0, "bit_rate": 4_000_000, "options": {"flags": "+ilme+ildct"}}
    return write_clip(path, codec=codec, shape=(48, 96), frames=marked, rate=25, **settings)


def combed(image):
    """The share of the pixels that both neighbours above and below differ from alike."""
    grey = image.astype(int).mean(2)
    return ((grey[1:-1] - grey[:-2]) * (grey[1:-1] - grey[2:]) > 200).mean()


@pytest.mark.parametrize("first", ["tff", "bff"])
@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("clip.mpg", "mpeg2video"),
        ("clip.mp4", "libx264"),
        ("clip.mkv", "ffv1"),
        ("clip.ts", "mpeg2video"),
    ],
)
def test_two_fields_become_one_picture(tmp_path, name, codec, first):
    if codec == "ffv1" and av.library_versions["libavcodec"][0] < 61:
        pytest.skip("FFmpeg 6 does not mark the fields of FFV1")
    clip = write_fields(tmp_path / name, codec, first)
    assert combed(read_clip(clip)[0][3]) > 0.05
    frames, times = read_clip(predict_clip(clip, tmp_path / "out", "mask"))
    assert len(frames) == 8
    np.testing.assert_allclose(times, np.arange(8) / 25, atol=1e-3)
    for i, frame in enumerate(frames[1:-1], 1):
        assert combed(frame) < 0.03
        columns = np.flatnonzero(frame[20:28].mean((0, 2)) > 128)
        assert abs(columns.mean() - (8 * i + 7.5)) < 2  # where the first field has it


def test_progressive_frames_keep_lines_of_one_pixel():
    stripes = np.zeros((48, 96), "uint8")
    stripes[::2] = 200
    marks = ["prog", "prog", "tff", "tff", "prog", "prog"]
    frames = []
    for time, mark in enumerate(marks):
        frame = av.VideoFrame.from_ndarray(stripes, "gray")
        frame.pts, frame.time_base = time, Fraction(1, 25)
        graph = field_marker(mark, "gray", frame.time_base)
        graph.push(frame)
        frames.append(graph.pull())
    made = list(deinterlaced(frames))
    assert [frame.pts for frame in made] == list(range(6))
    for mark, frame in zip(marks, made):
        if mark == "prog":
            np.testing.assert_array_equal(frame.to_ndarray(), stripes)
