"""Pictures of a result: the mask, the cut-out and the overlay."""

from pathlib import Path
from typing import NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

from datasets.files import InputError
from datasets.images import read_image

# How a picture of each kind is named after the photo's stem.
ENDINGS = {"mask": ".png", "cutout": "-cutout.png", "overlay": "-overlay.jpg"}

TINT = np.array([255, 45, 85], "float32")  # RGB of the overlay
TINT_STRENGTH = 0.4


class RenderOptions(NamedTuple):
    """What is made of a map. `kinds` are keys of `ENDINGS`."""

    kinds: Sequence[str] = ("mask",)
    align_corners: bool = False
    threshold: Optional[float] = None
    crop: bool = False
    background: Optional[np.ndarray] = None


def render(
    kind: str, image: np.ndarray, alpha: np.ndarray, background: Optional[np.ndarray] = None
) -> np.ndarray:
    """The picture of `kind` ('mask', 'cutout', 'overlay') of RGB uint8 [H, W, 3] and `alpha`
    uint8 [H, W]: grey [H, W], RGBA [H, W, 4] (RGB over `background` if given), RGB [H, W, 3].
    """
    if kind == "mask":
        return alpha
    if kind == "overlay":
        return overlay(image, alpha)
    if background is None:
        return np.dstack([image, alpha])
    return blend(image, fit(background, image.shape[:2]), alpha)


def to_bytes(saliency: np.ndarray, threshold: Optional[float] = None) -> np.ndarray:
    """A map float32 [H, W] in [0, 1] as uint8 0..255, rounded as `cv2.imwrite` does; with
    `threshold` 255 where the map reaches it, else 0.
    """
    if threshold is not None:
        return np.where(saliency >= threshold, np.uint8(255), np.uint8(0))
    return cv2.convertScaleAbs(saliency, alpha=255)


def object_box(alpha: np.ndarray) -> Tuple[slice, slice]:
    """Rows and columns of the box around all of `alpha` [H, W] that is at least 128; the whole
    picture where nothing is.
    """
    seen = alpha >= 128
    rows, columns = (np.flatnonzero(seen.any(axis)) for axis in (1, 0))
    if not rows.size:
        return slice(None), slice(None)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def overlay(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The photo, RGB uint8 [H, W, 3], with the object tinted and outlined."""
    tint = np.broadcast_to(TINT.astype("uint8"), image.shape)
    picture = blend(tint, image, cv2.convertScaleAbs(alpha, alpha=TINT_STRENGTH))
    hard = np.where(alpha >= 128, np.uint8(255), np.uint8(0))
    contours = cv2.findContours(hard, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)[0]
    width = max(1, round(min(image.shape[:2]) / 200))
    cv2.drawContours(picture, contours, -1, (255, 255, 255), 3 * width, cv2.LINE_AA)
    cv2.drawContours(picture, contours, -1, TINT.tolist(), width, cv2.LINE_AA)
    return picture


def blend(front: np.ndarray, back: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """`front` over `back`, uint8 [H, W, 3] both, by `alpha` uint8 [H, W]; row by row, so that a
    huge photo has no full-size copy in floats.
    """
    picture = np.empty(back.shape, "uint8")
    for top in range(0, len(picture), 256):
        rows = slice(top, top + 256)
        weight = alpha[rows, :, None].astype("float32") / 255
        mixed = back[rows] + (front[rows].astype("float32") - back[rows]) * weight
        picture[rows] = np.rint(mixed)
    return picture


def parse_background(text: str) -> np.ndarray:
    """RGB uint8 [H, W, 3] of an image file, or [1, 1, 3] of a colour ('white', '#20a0ff').

    Raises InputError for what is neither.
    """
    from PIL import ImageColor

    try:
        return np.array(ImageColor.getcolor(text, "RGB"), "uint8").reshape(1, 1, 3)
    except ValueError as error:
        if Path(text).exists():
            return read_image(text)
        raise InputError(
            f"--background {text}: neither a colour (white, #20a0ff) nor an image file"
        ) from error


def fit(background: np.ndarray, shape: Tuple[int, int]) -> np.ndarray:
    """`background` [h, w, 3] at `shape` (H, W): scaled to cover it, its middle kept."""
    (height, width), (rows, columns) = shape, background.shape[:2]
    if (rows, columns) == (1, 1):
        return np.broadcast_to(background, (height, width, 3))
    scale = max(height / rows, width / columns)
    rows, columns = max(height, round(rows * scale)), max(width, round(columns * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    large = cv2.resize(background, (columns, rows), interpolation=method)
    top, left = (rows - height) // 2, (columns - width) // 2
    return large[top : top + height, left : left + width]
