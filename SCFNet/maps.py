"""Maps at the size of a photo: the network's own, and one that is clean enough to cut out by."""

from typing import Optional, Tuple

import cv2
import numpy as np

# Chosen on a tenth of DUTS-TR that no network learnt from.
EDGE = 0.85  # logits, without sharpening, at which alpha is 0 and 1: a chance of .3 and of .7
SPECK_SHARE = 0.05  # what has less of the largest part's mass, and lies apart from it, is a speck
SPECK_GAP = 0.05  # how far apart, in sides of the map
STEEPEST = 1e-6  # a network's certainty ends here, lest its logits be infinite


def resize_map(
    saliency: np.ndarray, shape: Tuple[int, int], align_corners: bool = False
) -> np.ndarray:
    """Resize a map float32 [h, w] bilinearly to `shape` (H, W)."""
    if not align_corners:
        return cv2.resize(saliency, shape[::-1], interpolation=cv2.INTER_LINEAR)
    (height, width), (rows, columns) = saliency.shape, shape
    if rows * width > height * columns:  # the smaller array in between
        return _stretch(_stretch(saliency.T, columns).T, rows)
    return _stretch(_stretch(saliency, rows).T, columns).T


def _stretch(array: np.ndarray, rows: int) -> np.ndarray:
    """Resize `array` float32 [h, w] linearly to [rows, w], with both end rows in place."""
    places = np.linspace(0, len(array) - 1, rows)
    first = places.astype(int)
    second = np.minimum(first + 1, len(array) - 1)
    weight = (places - first).astype("float32")[:, None]
    return array[first] * (1 - weight) + array[second] * weight


def to_bytes(saliency: np.ndarray, threshold: Optional[float] = None) -> np.ndarray:
    """Turn a map float32 [H, W] in [0, 1] into uint8 0..255, rounded as `cv2.imwrite` does; with
    `threshold` 255 for what reaches it, else 0.
    """
    if threshold is not None:
        return np.where(saliency >= threshold, np.uint8(255), np.uint8(0))
    return cv2.convertScaleAbs(saliency, alpha=255)


def clean_alpha(
    saliency: np.ndarray,
    shape: Tuple[int, int],
    sharpened: float = 1,
    align_corners: bool = False,
    threshold: Optional[float] = None,
) -> np.ndarray:
    """Make the alpha of a cut-out, uint8 [H, W], of a network's map: smooth edges, no haze, no
    specks.

    Logits are resized, not the map, whose steps would show. Alpha then rises from 0 to 255 between
    the logits -EDGE and EDGE, what a contrast of clip((map - .3) / .4) does.

    Args:
        saliency: float32 [h, w] in [0, 1], as the network gives it.
        shape: (H, W) of the photo.
        sharpened: what the network's logits were multiplied by after training; it is undone.
        align_corners: resize as the release's test script does, else as its notebook.
        threshold: in [0, 1]; alpha is 255 where the map reaches it, else 0.
    """
    chances = np.clip(saliency, STEEPEST, 1 - STEEPEST)
    logits = np.log(chances / (1 - chances)) / np.float32(sharpened)
    logits[_is_speck(logits)] = -2 * EDGE
    logits = resize_map(logits, shape, align_corners)
    if threshold is not None:
        limit = np.clip(threshold, STEEPEST, 1 - STEEPEST)
        return to_bytes(logits, np.log(limit / (1 - limit)) / sharpened)
    return cv2.addWeighted(logits, 127.5 / EDGE, logits, 0, 127.5, dtype=cv2.CV_8U)


def _is_speck(logits: np.ndarray) -> np.ndarray:
    """Find the specks among the parts of an object, bool [h, w]: see SPECK_SHARE and SPECK_GAP."""
    alpha = np.clip(logits / (2 * EDGE) + 0.5, 0, 1)
    count, parts = cv2.connectedComponents((alpha > 0).astype("uint8"))
    mass = np.bincount(parts.ravel(), alpha.ravel(), count)  # of part 0, which is none, 0
    largest = mass.argmax()
    small = mass < SPECK_SHARE * mass[largest]
    small[0] = False
    if small.any():
        apart = (parts != largest).astype("uint8")
        distance = cv2.distanceTransform(apart, cv2.DIST_L2, cv2.DIST_MASK_5)
        small[np.unique(parts[distance <= SPECK_GAP * max(logits.shape)])] = False
    return small[parts]
