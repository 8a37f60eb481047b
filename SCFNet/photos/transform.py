"""From a photo to a network's input: the one resize and normalisation that every part uses."""

from typing import Any, Iterable, NamedTuple, Sequence, Tuple, Union

import cv2
import numpy as np

from SCFNet.errors import ArgumentError

# RGB statistics of the release, on the 0..255 scale: a photo is fed as (image - MEAN) / STD.
MEAN = np.array([124.55, 118.90, 102.94], "float32")
STD = np.array([56.77, 55.97, 57.50], "float32")

LARGEST_SIZE = 4096  # of a network's input, in pixels

Channels = Union[Sequence[float], np.ndarray]  # three numbers, of R, G and B


class Normalisation(NamedTuple):
    """How a network wants its photos: (photo - mean) / std, on the scale 0 to 255. With `by_max` a
    photo is first scaled so that its largest value is 255.
    """

    mean: Channels
    std: Channels
    by_max: bool = False


RELEASE = Normalisation(MEAN, STD)
IMAGENET = Normalisation((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


def network_input(
    images: Sequence[np.ndarray], size: int, normalisation: Normalisation = RELEASE
) -> np.ndarray:
    """Resize and normalise a batch of photos: float32 [N, 3, size, size].

    `images` are RGB uint8 [H, W, 3] each, of any sizes. Resizing is bilinear without antialiasing,
    with half-pixel centres, in floats. Raises ValueError for an array that is not RGB uint8.
    """
    batch = np.empty((len(images), 3, size, size), "float32")
    for image, planes in zip(images, batch):
        resize_normalised(image, planes, normalisation)
    return batch


def resize_normalised(
    image: np.ndarray, out: np.ndarray, normalisation: Normalisation = RELEASE
) -> None:
    """Do `network_input` for one photo, and write the result to `out`, float32 [3, size, size]."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"an image is RGB uint8 [H, W, 3], not {image.dtype} {image.shape}")
    size = out.shape[1]
    if max(image.shape) > 2 * size:
        small: Iterable[np.ndarray] = cv2.split(_shrink(image, size))
    else:  # one by one: smaller arrays, whose memory the system need not clear anew
        small = (cv2.resize(c.astype("float32"), (size, size)) for c in cv2.split(image))
    mean, std, by_max = normalisation
    scale = 1.0
    if by_max:
        small = list(small)
        scale = 255 / max(1.0, *(float(channel.max()) for channel in small))
    for channel, plane, m, s in zip(small, out, mean, std):
        cv2.addWeighted(channel, scale / s, channel, 0, -m / s, dst=plane, dtype=cv2.CV_32F)


def renormalised(batch: Any, normalisation: Normalisation) -> Any:
    """Turn a batch [N, 3, H, W], normalised as the release does it, into what another network
    wants.

    Arrays and Paddle's tensors are served alike, by what both know.
    """
    if normalisation is RELEASE:
        return batch
    mean, std, release_mean, release_std = (
        np.reshape(np.asarray(channels, "float32"), (1, 3, 1, 1))
        for channels in (*normalisation[:2], *RELEASE[:2])
    )
    batch = batch * release_std + release_mean
    if normalisation.by_max:
        largest = batch.reshape([len(batch), -1]).max(1).reshape([-1, 1, 1, 1])
        batch = batch * (255 / largest.clip(min=1))
    return (batch - mean) / std


def _shrink(image: np.ndarray, size: int) -> np.ndarray:
    """Do what `cv2.resize` does for floats, float32 [size, size, 3], but look only at the rows and
    columns of a huge photo that count.
    """
    (top, bottom, down), (left, right, across) = (_taps(n, size) for n in image.shape[:2])
    columns = np.concatenate([left, right])
    rows = image[top].take(columns, 1).astype("float32")
    rows += (image[bottom].take(columns, 1) - rows) * down[:, None, None]
    small, beside = rows[:, :size], rows[:, size:]
    return small + (beside - small) * across[:, None]


def _taps(before: int, after: int) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find, for each of `after` samples, its two neighbours among `before`, and the weight of the
    second.
    """
    places = np.clip((np.arange(after) + 0.5) * (before / after) - 0.5, 0, before - 1)
    first = places.astype(int)
    return first, np.minimum(first + 1, before - 1), (places - first).astype("float32")


def check_size(argument: str, size: int) -> None:
    """Raise ArgumentError unless a network's input may have this side, in pixels.

    The deepest features have a thirty-second of it.
    """
    if size % 32 or not 32 <= size <= LARGEST_SIZE:
        raise ArgumentError(
            argument, f"must be a multiple of 32, from 32 to {LARGEST_SIZE}, not {size}"
        )
