"""The sound of videos: copied as it is, or as AAC if MP4 players do not know its coding."""

import numpy as np
import pytest

from tests.clips import av, predict_clip, read_clip, seconds, sound_of, write_clip


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
