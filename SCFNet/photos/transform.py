"""From a photo to a network's input: the one resize, and the one normalisation."""

from typing import Any, NamedTuple, Sequence, Tuple, Union

import cv2
import numpy as np

from SCFNet.errors import ArgumentError

# RGB statistics of the release, on the 0..255 scale: a photo is fed as (image - MEAN) / STD.
MEAN = np.array([124.55, 118.90, 102.94], "float32")
STD = np.array([56.77, 55.97, 57.50], "float32")

LARGEST_SIZE = 4096  # of a network's input, in pixels

Channels = Union[Sequence[float], np.ndarray]  # three numbers, of R, G and B


class Normalisation(NamedTuple):
    """Numbers of R, G and B by which a network's photos are normalised; see `normalise`."""

    mean: Channels
    std: Channels
    by_max: bool = False


RELEASE = Normalisation(MEAN, STD)
IMAGENET = Normalisation((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
EFFICIENTNET = Normalisation((127.0,) * 3, (128.0,) * 3)


def network_input(
    images: Sequence[np.ndarray], size: int, normalisation: Normalisation = RELEASE
) -> np.ndarray:
    """Return a batch of photos as a network wants them, float32 [N, 3, size, size].

    See `photo_batch` and `normalise`, which it calls.
    """
    return normalise(photo_batch(images, size), normalisation)


def photo_batch(images: Sequence[np.ndarray], size: int) -> np.ndarray:
    """Resize photos, RGB uint8 [H, W, 3] of any sizes, to float32 [N, 3, size, size] in 0..255.

    Resizing is bilinear without antialiasing, with half-pixel centres, in floats. Raises ValueError
    for an array that is not RGB uint8.
    """
    batch = np.empty((len(images), 3, size, size), "float32")
    for image, out in zip(images, batch):
        resize_photo(image, out)
    return batch


def resize_photo(image: np.ndarray, out: np.ndarray) -> None:
    """Resize one photo as `photo_batch` does, into `out`, float32 [3, size, size]."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"an image is RGB uint8 [H, W, 3], not {image.dtype} {image.shape}")
    size = out.shape[1]
    if max(image.shape) > 2 * size:
        out[:] = _shrink(image, size).transpose(2, 0, 1)
        return
    for channel, plane in zip(cv2.split(image), out):  # small arrays stay in the cache
        cv2.resize(channel.astype("float32"), (size, size), dst=plane)


def normalise(batch: Any, normalisation: Normalisation) -> Any:
    """Return (batch - mean) / std of photos [N, 3, H, W] in 0..255, an array or a Paddle tensor.

    With `by_max` each photo is first scaled so that its largest value is 255.
    """
    mean, std = (np.reshape(np.asarray(c, "float32"), (1, 3, 1, 1)) for c in normalisation[:2])
    if normalisation.by_max:
        largest = batch.reshape([len(batch), -1]).max(1).reshape([-1, 1, 1, 1])
        batch = batch * (255 / largest.clip(min=1))
    batch = batch - mean
    batch /= std  # an array's memory is used again
    return batch


def _shrink(image: np.ndarray, size: int) -> np.ndarray:
    """Return float32 [size, size, 3], what `cv2.resize` gives for floats, but read only the rows
    and columns of a huge photo that count.
    """
    (top, bottom, down), (left, right, across) = (taps(n, size) for n in image.shape[:2])
    columns = np.concatenate([left, right])
    rows = image[top].take(columns, 1).astype("float32")
    rows += (image[bottom].take(columns, 1) - rows) * down[:, None, None]
    small, beside = rows[:, :size], rows[:, size:]
    return small + (beside - small) * across[:, None]


def taps(before: int, after: int) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, for each of `after` samples, its two neighbours among `before`, and the weight of
    the second.
    """
    places = np.clip((np.arange(after) + 0.5) * (before / after) - 0.5, 0, before - 1)
    first = places.astype(int)
    return first, np.minimum(first + 1, before - 1), (places - first).astype("float32")


def check_size(argument: str, size: int) -> None:
    """Raise ArgumentError unless a network's input may have this side, in pixels.

    The deepest features have a thirty-second of it.
    """
    if not isinstance(size, (int, np.integer)) or size % 32 or not 32 <= size <= LARGEST_SIZE:
        raise ArgumentError(
            argument, f"must be a multiple of 32, from 32 to {LARGEST_SIZE}, not {size!r}"
        )
