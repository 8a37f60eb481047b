"""Speed of loading a pair on one core: ours, and the release's steps in the release's types.

It runs in a process of its own (python -m SCFNet.benchmarks.loading), which has imported little:
how fast large arrays are made depends on what a process has freed before.
"""

import itertools
import tempfile
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

import cv2
import numpy as np
from PIL import Image

from datasets.loader import Epoch, load_batch
from datasets.sod import Sample, list_pairs
from SCFNet.benchmarks.timing import Way, median_computing
from SCFNet.photos.transform import MEAN, RELEASE, STD, normalise

BATCH, SIDE = 8, 288
PHOTO = (300, 400)  # height and width of most of DUTS-TR
JPEG_QUALITY = 84  # gives about 25 KB a photo


def loaders(samples: Sequence[Sample]) -> Tuple[Way, Way]:
    """Make two ways to load and normalise a batch of 8 at 288 px, with other random numbers in
    each call: the release's steps, and ours.
    """
    calls = itertools.count(), itertools.count()
    return (
        lambda: obvious_batch(samples, np.random.default_rng(next(calls[0]))),
        lambda: normalised_batch(Epoch(samples, [SIDE], BATCH, number=next(calls[1]))),
    )


def normalised_batch(epoch: Epoch) -> Tuple[np.ndarray, Optional[np.ndarray]]:
    """Load the first eight samples of `epoch`, and normalise the photos."""
    images, masks = load_batch(epoch, range(BATCH), epoch.sizes[0])
    return normalise(images, RELEASE), masks


def obvious_batch(
    samples: Sequence[Sample], rng: np.random.Generator
) -> Tuple[np.ndarray, np.ndarray]:
    """Load what `normalised_batch` loads by the release's steps, in the release's order and types:
    floats, masks of three channels, everything on whole arrays.
    """
    images, masks = [], []
    for sample in samples:
        image: np.ndarray = _read_rgb(sample.image).astype(np.float32)
        mask: np.ndarray = _read_rgb(sample.mask).astype(np.float32)
        if rng.random() < 0.1:
            size = int(rng.integers(3, 10)) | 1
            image = cv2.GaussianBlur(image, (size, size), 0)
        image = np.clip(rng.uniform(0.5, 1.5, 1) * image + rng.integers(-15, 15), 0, 255)
        image = (image - MEAN.astype(float)) / STD.astype(float)
        mask = mask / 255
        height, width = mask.shape[:2]
        cut_y, cut_x = rng.integers(height // 8), rng.integers(width // 8)
        top, left = rng.integers(cut_y + 1), rng.integers(cut_x + 1)
        window = np.s_[top : top + height - cut_y, left : left + width - cut_x]
        image, mask = image[window], mask[window]
        for axis, chance in ((1, 0.5), (0, 0.2)):
            if rng.random() < chance:
                image, mask = np.flip(image, axis).copy(), np.flip(mask, axis).copy()
        images.append(cv2.resize(image, (SIDE, SIDE)))
        masks.append(cv2.resize(mask, (SIDE, SIDE)))
    image_batch = np.stack(images).transpose(0, 3, 1, 2).astype(np.float32)
    mask_batch = np.stack(masks).transpose(0, 3, 1, 2).mean(axis=1, keepdims=True)
    return image_batch, mask_batch.astype(np.float32)


def _read_rgb(path: Optional[Path]) -> np.ndarray:
    return np.asarray(cv2.imread(str(path)))[:, :, ::-1]


def write_photos(folder: Path, count: int = BATCH) -> List[Sample]:
    """Write `count` pairs of DUTS-TR's usual size, made of scikit-image's photos."""
    from skimage import data

    sources = (data.astronaut(), data.chelsea(), data.coffee(), data.rocket())
    masks = ellipses(*PHOTO)
    for name in ("image", "mask"):
        (folder / name).mkdir()
    for i in range(count):
        source = sources[i % len(sources)][:, :: -1 if i // len(sources) % 2 else 1]
        photo = Image.fromarray(cv2.resize(source, PHOTO[::-1]))
        photo.save(folder / "image" / f"{i}.jpg", quality=JPEG_QUALITY)
        Image.fromarray(masks[i % BATCH, 0] > 0).save(folder / "mask" / f"{i}.png")
    return list_pairs(folder)


def ellipses(height: int, width: int = 0) -> np.ndarray:
    """Draw eight masks, float32 [8, 1, H, W]; W = H if it is 0."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : (width or height) * 1j]
    found = [(y - i / 20) ** 2 / 0.4 + x**2 / (0.2 + i / 20) < 1 for i in range(BATCH)]
    return np.stack(found)[:, None].astype("float32")


def main() -> None:
    """Print the seconds that a batch takes by the release's steps, and by ours."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        print(*median_computing(*loaders(write_photos(Path(folder))), rounds=5, repeats=10))


if __name__ == "__main__":
    main()
