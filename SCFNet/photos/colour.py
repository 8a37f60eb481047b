"""Colour profiles: pixels of any colour space become sRGB, in which a screen shows them."""

import io
from functools import lru_cache
from typing import Optional

import cv2
import numpy as np
from PIL import Image, ImageCms

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
    """Return uint8 [H, W, 1 or 3] of that profile as RGB uint8 [H, W, 3] in sRGB."""
    grey = pixels.shape[2] == 1
    if profile and _transform(profile, "L" if grey else "RGB"):
        return np.array(to_srgb(Image.fromarray(pixels[..., 0] if grey else pixels), profile))
    return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB) if grey else pixels


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
