"""Colour profiles: pixels of any colour space become sRGB, in which a screen shows them."""

import io
from functools import lru_cache
from typing import Optional, Tuple

import cv2
import numpy as np
from PIL import Image, ImageCms

# H.273's codes, as in AVIF, HEIC and PNG: RGB of these primaries, in light, to that of sRGB.
TO_709 = {
    9: ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187)),
    12: ((1.2249, -0.2247, 0.0), (-0.0420, 1.0419, 0.0), (-0.0197, -0.0786, 1.0979)),
}
SRGB_PRIMARIES, SRGB_TRANSFERS = (1, 2, 5, 6, 7), (1, 2, 6, 13, 14, 15)
LINEAR, PQ, HLG = 8, 16, 18
GAMMAS = {4: 2.2, 5: 2.8}
HDR_WHITE = 203.0  # cd/m2 of white in PQ and HLG (ITU-R BT.2408)
HLG_PEAK, HLG_GAMMA = 1000.0, 1.2
LUMA_2020 = (0.2627, 0.6780, 0.0593)

SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}  # the profile's colour space for each mode


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert an image of mode RGB, L or CMYK to RGB in sRGB.

    `profile` is the ICC profile in its file. One that is empty, broken, or of another colour space
    than the image counts for nothing, as in browsers.
    """
    transform = _transform(profile, image.mode) if profile else None
    if transform is None:
        return image.convert("RGB")
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None  # it is only if the image itself is changed
    return converted


def pixels_to_srgb(pixels: np.ndarray, profile: bytes) -> np.ndarray:
    """Convert uint8 [H, W, 1 or 3] of that profile to RGB uint8 [H, W, 3] in sRGB."""
    grey = pixels.shape[2] == 1
    if profile and _transform(profile, "L" if grey else "RGB"):
        return np.array(to_srgb(Image.fromarray(pixels[..., 0] if grey else pixels), profile))
    return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB) if grey else pixels


def coded_colours(data: bytes, image_format: Optional[str]) -> Tuple[int, int]:
    """Return H.273's codes of primaries and transfer in an AVIF, HEIC or PNG file; sRGB's if it has
    none.
    """
    if image_format in ("AVIF", "HEIF"):
        at = data.find(b"colrnclx") + 8
        codes = data[at : at + 4] if at >= 8 else b""
        return (codes[0] << 8 | codes[1], codes[2] << 8 | codes[3]) if len(codes) == 4 else (1, 13)
    at = data.find(b"\0\0\0\4cICP", 0, data.find(b"IDAT")) + 8 if image_format == "PNG" else 0
    return (data[at], data[at + 1]) if at >= 8 else (1, 13)


def coded_to_srgb(pixels: np.ndarray, primaries: int, transfer: int) -> np.ndarray:
    """Convert RGB [H, W, 3], uint8 or uint16, of H.273's `primaries` and `transfer` to sRGB uint8.
    Light above white and colours outside of sRGB are clipped.

    Raises ValueError for codes that are not known.
    """
    if primaries in SRGB_PRIMARIES and transfer in SRGB_TRANSFERS and pixels.dtype == np.uint8:
        return pixels
    matrix = np.eye(3) if primaries in SRGB_PRIMARIES else TO_709.get(primaries)
    top = np.iinfo(pixels.dtype).max
    light = _light(np.arange(top + 1) / top, transfer)
    if matrix is None or light is None:
        raise ValueError(f"its colours have the codes {primaries}/{transfer}, which are not known")
    light = light.astype("float32")
    result = np.empty(pixels.shape, "uint8")
    levels = np.rint(255 * _srgb(np.linspace(0, 1, 1 << 16))).astype("uint8")
    for row, target in zip(pixels, result):
        rgb = light[row]
        if transfer == HLG:  # of the scene; the screen's depends on the luminance
            luma = np.maximum(rgb @ np.array(LUMA_2020, "float32"), 1e-6)
            rgb *= (luma ** (HLG_GAMMA - 1) * (HLG_PEAK / HDR_WHITE))[:, None]
        rgb = np.clip(rgb @ np.array(matrix, "float32").T, 0, 1)
        target[:] = levels[np.rint(rgb * (len(levels) - 1)).astype("int32")]
    return result


def _light(code: np.ndarray, transfer: int) -> Optional[np.ndarray]:
    """Return the light, 1 being white, of values in [0, 1], of HLG the scene's light; None if the
    transfer is not known.
    """
    if transfer in SRGB_TRANSFERS:
        return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    if transfer == LINEAR or transfer in GAMMAS:
        return code ** GAMMAS.get(transfer, 1.0)
    if transfer == PQ:  # SMPTE ST 2084
        root = code ** (32 / 2523)
        light = np.maximum(root - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * root)
        return 10000 / HDR_WHITE * light ** (8192 / 1305)
    if transfer == HLG:  # ITU-R BT.2100
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
    return None


def _srgb(light: np.ndarray) -> np.ndarray:
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> Optional[ImageCms.ImageCmsTransform]:
    """Build the conversion of `profile` to sRGB; None if no colour changes by over 1 level."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != SPACES[mode]:
            return None
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except Exception:  # a broken profile does not cost us the photo
        return None
    if mode == "CMYK":
        return transform
    levels = np.arange(0, 256, 15, "uint8")
    colours = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(-1, len(levels), 3)
    probe = Image.fromarray(levels[None] if mode == "L" else colours)
    found = np.asarray(ImageCms.applyTransform(probe, transform), int)
    same = np.abs(found - np.asarray(probe.convert("RGB"))).max() <= 1
    return None if same else transform
