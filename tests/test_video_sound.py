"""The sound of videos: copied as it is, or as AAC if MP4 players do not know its coding."""

import numpy as np
import pytest

from SCFNet.prediction.marks import is_result
from tests.clips import DEFAULT, av, predict_clip, read_clip, seconds, sound_of, write_clip


def beginnings(path):
    """When a video's first picture is shown, and its first packet of sound heard, in seconds."""
    with av.open(str(path)) as container:
        heard = next(packet for packet in container.demux(audio=0) if packet.size)
        return read_clip(path)[1][0], float(heard.pts * heard.time_base)


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
    pictures, sound = np.subtract(beginnings(clip), beginnings(made))
    assert abs(pictures) < 2  # a transport stream's clock begins anywhere
    assert abs(pictures - sound) < 0.003
    assert abs(seconds(made) - seconds(clip)) < 0.05


@pytest.mark.parametrize("name", ["clip.mov", "clip.avi", "clip.mkv"])
def test_sound_that_mp4_does_not_know_becomes_aac(tmp_path, name):
    clip = write_clip(tmp_path / name, sound="pcm_s16le")
    made = predict_clip(clip, tmp_path / "out")
    with av.open(str(made)) as container:
        wave = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    assert abs(len(wave) / 44100 - 0.5) < 0.06
    assert sound_of(made)[0] == "aac" and 0.2 < np.abs(wave[5000:15000]).max() < 0.3


TRACKS = [("eng", None, False), ("deu", "Kommentar", True), ("fra", "Musik", False)]


@pytest.mark.skipif(not hasattr(av.stream.Stream, "disposition"), reason="PyAV 12 has no flags")
@pytest.mark.parametrize(
    ("name", "sound", "format"),
    [
        ("clip.mkv", "aac", "mp4"),
        ("clip.mkv", "pcm_s16le", "mov"),
        ("clip.mp4", "aac", "webm"),
        ("clip.mkv", "libopus", "webm"),
        ("clip.mp4", "aac", "mov"),
        ("clip.mkv", "libopus", "mp4"),
    ],
)
def test_tracks_keep_their_language_title_and_default(tmp_path, name, sound, format):
    clip = write_clip(tmp_path / name, sound=sound, tracks=TRACKS)
    with av.open(str(predict_clip(clip, tmp_path / "out", format=format))) as container:
        tracks = [
            (
                stream.metadata["language"],
                stream.metadata.get("title", stream.metadata.get("name")),
                bool(stream.disposition & DEFAULT),
            )
            for stream in container.streams.audio
        ]
    codes = {"deu": "ger"} if format == "mov" else {}  # QuickTime's own code
    assert tracks == [(codes.get(track[0], track[0]), *track[1:]) for track in TRACKS]


def test_the_titles_of_many_tracks_hide_no_mark(tmp_path):
    tracks = [("deu", f"{i}. {'a long title ' * 20}", False) for i in range(14)]
    clip = write_clip(tmp_path / "clip.mkv", 2, sound="libopus", tracks=tracks)
    for format in ("webm", "mp4", "mov"):
        assert is_result(predict_clip(clip, tmp_path / "out", "mask", format))


def test_subtitles_that_are_left_out_are_said(tmp_path, capfd):
    clip = write_clip(tmp_path / "clip.mkv", sound="aac")
    predict_clip(clip, tmp_path / "out")
    assert "subtitles" not in capfd.readouterr().err
    (tmp_path / "text.srt").write_text("1\n00:00:00,000 --> 00:00:00,400\nBonjour\n")
    with av.open(str(clip)) as source, av.open(str(tmp_path / "text.srt")) as text, av.open(
        str(tmp_path / "text.mkv"), "w"
    ) as container:
        streams = source.streams.video[0], text.streams[0]
        if hasattr(container, "add_stream_from_template"):
            copies = [container.add_stream_from_template(stream) for stream in streams]
        else:  # PyAV 12
            copies = [container.add_stream(template=stream) for stream in streams]
        copies[1].metadata["language"] = "fra"
        for stream, copy in zip(streams, copies):
            for packet in stream.container.demux(stream):
                if packet.size:
                    packet.stream = copy
                    container.mux(packet)
    predict_clip(tmp_path / "text.mkv", tmp_path / "out")
    assert f"{tmp_path}/text.mkv: its subtitles (fra) are left out" in capfd.readouterr().err
