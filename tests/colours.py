"""Colours of HDR photos and videos: sRGB as light, and light as PQ, HLG and sRGB code it."""

import numpy as np

TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])


def light_of(image):
    """The light, white being 1, of sRGB in 0..255."""
    code = image / 255
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)


def srgb(light):
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def pq(light):
    """PQ in [0, 1] of light whose white is at 203 cd/m2 (SMPTE ST 2084)."""
    y = (light * 203 / 10000) ** (2610 / 16384)
    return ((3424 / 4096 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375


def hlg(light):
    """HLG in [0, 1] of light [..., 3] whose white is at 203 of 1000 cd/m2 (ITU-R BT.2100)."""
    screen = light * 203 / 1000
    luma = np.maximum(screen @ (0.2627, 0.6780, 0.0593), 1e-9)[..., None]
    scene = screen * luma ** (1 / 1.2 - 1)
    upper = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), upper)
