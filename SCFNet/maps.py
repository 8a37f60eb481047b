"""Maps at the size of a photo: the network's own, and one that is clean enough to cut out by."""

from typing import Optional, Tuple

import cv2
import numpy as np

# Chosen on a tenth of DUTS-TR that no network learnt from.
EDGE = 0.85  # logits, without sharpening, at which alpha is 0 and 1: a chance of .3 and of .7
SPECK_SHARE = 0.05  # what has less of the largest part's mass, and lies apart from it, is a speck
SPECK_GAP = 0.05  # how far apart, in sides of the map
STEEPEST = 1e-6  # a network's certainty ends here, lest its logits be infinite

# Of `smooth_edges`, in pixels of the map, whose network predicts one of four. Chosen by
# tools/benchmark.py --edges and on PASCAL-S.
ALONG = 8  # standard deviation along an edge
AROUND = 1.5  # and in all directions
DIRECTION = 6  # standard deviation over which the direction of an edge is found
THIN, SIDE = 17, 352  # what a disc of diameter THIN does not fit into is thin, in maps of that side


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

    Logits are resized, not the map, whose steps would show, after `smooth_edges`. Alpha then rises
    from 0 to 255 between the logits -EDGE and EDGE, what a contrast of clip((map - .3) / .4) does.

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
    logits = resize_map(smooth_edges(logits), shape, align_corners)
    if threshold is not None:
        limit = np.clip(threshold, STEEPEST, 1 - STEEPEST)
        return to_bytes(logits, np.log(limit / (1 - limit)) / sharpened)
    return cv2.addWeighted(logits, 127.5 / EDGE, logits, 0, 127.5, dtype=cv2.CV_8U)


def smooth_edges(logits: np.ndarray) -> np.ndarray:
    """Smooth an object's edges along themselves, float32 [h, w]: a network predicts on a grid
    coarser than its map, which shows as scallops in a large photo. Thin parts stay as they are.

    Each pixel becomes a Gaussian mean over the line through it that follows the edges (line
    integral convolution; Cabral and Leedom, SIGGRAPH 1993), at half the map's size.
    """
    height, width = logits.shape
    half = max(1, width // 2), max(1, height // 2)
    mean = _mean_along_edges(cv2.resize(logits, half, interpolation=cv2.INTER_AREA))
    mean = cv2.resize(mean, (width, height), interpolation=cv2.INTER_CUBIC)
    mean = cv2.GaussianBlur(mean, (0, 0), AROUND)
    return mean + _thinness(logits) * (logits - mean)


def _mean_along_edges(logits: np.ndarray) -> np.ndarray:
    """Average `logits` float32 [h, w], at half the map's size, along their edges.

    Places and directions are complex numbers, x + iy. The square of a gradient is the same on both
    sides of a ridge, so squares can be averaged. A line that leaves the map ends there. It is
    followed by Heun's method: by Euler's it would leave a bend outwards, and what is round shrink.
    """
    gradient = cv2.Sobel(logits, cv2.CV_32F, 1, 0) + 1j * cv2.Sobel(logits, cv2.CV_32F, 0, 1)
    squares = cv2.GaussianBlur(_planes(gradient**2), (0, 0), DIRECTION / 2)
    along = np.sqrt(-squares.view("complex64")[..., 0])
    along = _planes(along / (np.abs(along) + np.float32(1e-9)))
    rows, columns = np.indices(logits.shape, "float32")
    start = columns + 1j * rows
    total, weights = logits.copy(), 1.0
    for side in (1, -1):
        places, heading = start, side * along.view("complex64")[..., 0]
        for distance in range(4, 5 * ALONG // 2 + 1, 4):  # to 2.5 standard deviations
            weight = np.exp(-0.5 * (distance / ALONG) ** 2)
            found = _look_up(along, places + 2 * heading, cv2.INTER_NEAREST)
            found = found.view("complex64")[..., 0]
            ahead = np.where((found * heading.conj()).real < 0, -found, found)
            moved = places + heading + ahead
            x, y = moved.real, moved.imag
            inside = (x >= 0) & (x <= columns[-1, -1]) & (y >= 0) & (y <= rows[-1, -1])
            places = np.where(inside, moved, places)
            total += np.float32(weight) * _look_up(logits, places)
            weights += weight
            heading = ahead
    return total / np.float32(weights)


def _look_up(image: np.ndarray, places: np.ndarray, method: int = cv2.INTER_LINEAR) -> np.ndarray:
    """Interpolate `image` float32 [h, w, ...] at places x + iy, complex64 [h, w]."""
    return cv2.remap(image, places.real, places.imag, method)


def _planes(numbers: np.ndarray) -> np.ndarray:
    """View complex64 [h, w] as float32 [h, w, 2]."""
    return numbers.view("float32").reshape(*numbers.shape, 2)


def _thinness(logits: np.ndarray) -> np.ndarray:
    """Find thin parts of an object, and thin gaps in it, float32 [h, w]: 1 there, 0 far from them.
    See THIN: in a smaller map, where a pixel is more of the photo, the disc is wider. What is
    thinner than three pixels is roughness.
    """
    width = max(THIN, THIN * SIDE // max(logits.shape)) | 1  # odd, as a disc has a middle
    disc, near = (cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (d, d)) for d in (width, 7))
    seen = (logits > 0).astype("uint8")
    parts = seen - cv2.morphologyEx(seen, cv2.MORPH_OPEN, disc)
    gaps = cv2.morphologyEx(seen, cv2.MORPH_CLOSE, disc) - seen
    rough = np.ones((3, 3), "uint8")
    thin = cv2.max(*(cv2.morphologyEx(one, cv2.MORPH_OPEN, rough) for one in (parts, gaps)))
    return cv2.GaussianBlur(cv2.dilate(thin, near).astype("float32"), (0, 0), 2)


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
