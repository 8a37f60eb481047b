"""Videos with an alpha channel: what is transparent stays out of every result."""

import numpy as np
import pytest

from tests.clips import predict_clip, read_clip, write_clip

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
    mask = read_clip(predict_clip(clip, tmp_path / "out", "mask"))[0]
    assert len(mask) == 12
    assert mask[:, :, :13].max() < 25 and mask[0, 12:28, 18].min() > 200
    cutout = read_clip(predict_clip(clip, tmp_path / "out", "cutout", background=BLUE))[0]
    np.testing.assert_allclose(cutout[:, :, :13], np.broadcast_to(BLUE, (12, 48, 13, 3)), atol=25)
    np.testing.assert_allclose(cutout[9, 14:26, 18], [(230, 200, 40)] * 12, atol=40)
    overlay = read_clip(predict_clip(clip, tmp_path / "out", "overlay"))[0]
    assert overlay[:, :, :12].min() > 225  # white


@pytest.mark.parametrize(("name", "codec", "pixels", "options"), CODINGS)
def test_alpha_that_is_full_everywhere_changes_nothing(tmp_path, name, codec, pixels, options):
    settings = {"codec": codec, "pixels": pixels, "options": options, "bit_rate": 2_000_000}
    clip = write_clip(tmp_path / name, alpha=np.full_like(RIGHT, 255), **settings)
    mask = read_clip(predict_clip(clip, tmp_path / "out", "mask"))[0]
    assert mask[0, 12:28, 2:18].min() > 200 and mask[0, 34:].max() < 25
