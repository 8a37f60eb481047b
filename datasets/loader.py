"""Batches for training: each a pure function of seed, epoch and position, by any worker.

No random state is kept anywhere, so that a run which is resumed at a batch, or has another number
of workers, sees the same pixels.
"""

import collections
import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

from datasets.augment import RELEASE, Augmentation, augment, paste_object
from datasets.files import InputError
from datasets.sod import Sample, read_pair_uint8
from datasets.transform import resize_normalised

Batch = Tuple[np.ndarray, Optional[np.ndarray]]

ORDER, SIZE, SAMPLE = range(1, 4)  # the streams of random numbers: [stream, seed, epoch, position]


class Epoch(NamedTuple):
    """What turns a sample into pixels, the same for all of an epoch's batches."""

    samples: Sequence[Sample]
    augmentation: Optional[Augmentation]
    seed: int
    number: int


def count_batches(samples: int, batch_size: int, world: int = 1) -> int:
    """Batches, or steps, of an epoch of `samples`, with `batch_size` for each of `world` processes.

    The last batch may be smaller. Where it would leave a process without any sample, its samples
    go to the batch before it. Raises InputError where there are fewer samples than processes.
    """
    if samples < world:
        raise InputError(f"{samples} samples are too few for {world} processes")
    whole, rest = divmod(samples, batch_size * world)
    return whole + (rest >= world or not whole)


def batch_size_in_pixels(sizes: Sequence[int], seed: int, epoch: int, batch: int) -> int:
    """The side length, one of `sizes`, to which a batch is resized; the same on all processes."""
    return int(np.random.default_rng([SIZE, seed, epoch, batch]).choice(sizes))


def epoch_indices(
    samples: int, batch_size: int, seed: int, epoch: int, rank: int = 0, world: int = 1
) -> List[np.ndarray]:
    """The samples of each batch of process `rank`, as indices: a shuffle, split, not repeated."""
    order = np.random.default_rng([ORDER, seed, epoch]).permutation(samples)
    count = count_batches(samples, batch_size, world)
    cuts = batch_size * world * np.arange(1, count)
    return [whole[rank::world] for whole in np.split(order, cuts)]


def batches(
    samples: Sequence[Sample],
    batch_size: int,
    sizes: Sequence[int],
    seed: int,
    epoch: int,
    start_batch: int = 0,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
    augmentation: Optional[Augmentation] = RELEASE,
) -> Iterator[Batch]:
    """The batches of an epoch from `start_batch` on, as process `rank` of `world` sees them.

    Yields images, float32 [N, 3, S, S], RGB and normalised, and masks, float32 [N, 1, S, S] in
    [0, 1], NaN for a sample without one, or None if none of a batch has one; S is one of `sizes`,
    drawn for each batch.
    `workers` threads load ahead, up to one batch more than there are threads; 0 loads when asked.
    Threads are enough, because decoding and resizing run outside of Python's lock, and unlike
    processes they survive Paddle, CUDA and Ctrl-C. Raises InputError for a file that cannot be
    read.
    """
    this_epoch = Epoch(samples, augmentation, seed, epoch)
    plan = [
        (indices, batch_size_in_pixels(sizes, seed, epoch, batch))
        for batch, indices in enumerate(
            epoch_indices(len(samples), batch_size, seed, epoch, rank, world)
        )
    ][start_batch:]
    if not workers:
        for indices, size in plan:
            yield load_batch(this_epoch, indices, size)
        return
    pool = ThreadPoolExecutor(workers)
    todo, ahead = iter(plan), collections.deque()
    try:
        while True:
            for indices, size in itertools.islice(todo, workers + 1 - len(ahead)):
                ahead.append(pool.submit(load_batch, this_epoch, indices, size))
            if not ahead:
                return
            yield ahead.popleft().result()
    finally:
        for task in ahead:
            task.cancel()
        pool.shutdown()


def load_batch(epoch: Epoch, indices: Sequence[int], size: int) -> Batch:
    """Read, augment, resize to `size` x `size` and normalise samples; returns as `batches`."""
    images = np.empty((len(indices), 3, size, size), "float32")
    masks = np.empty((len(indices), 1, size, size), "float32")
    labelled = any(epoch.samples[int(index)].mask for index in indices)
    for i, index in enumerate(indices):
        image, mask = _augmented(epoch, int(index))
        resize_normalised(image, out=images[i])
        if mask is None:
            masks[i] = np.nan
        else:
            np.divide(cv2.resize(mask, (size, size)), np.float32(255), out=masks[i, 0])
    return images, masks if labelled else None


def _augmented(epoch: Epoch, index: int) -> Tuple[np.ndarray, Optional[np.ndarray]]:
    sample = epoch.samples[index]
    if epoch.augmentation is None:
        return read_pair_uint8(sample)
    rng = np.random.default_rng([SAMPLE, epoch.seed, epoch.number, index])
    image, mask = _aligned(sample)
    if rng.random() < epoch.augmentation.paste and mask is not None:
        donor = epoch.samples[rng.integers(len(epoch.samples))]
        other_image, other_mask = _aligned(donor)
        if other_mask is not None:
            image, mask = paste_object(image, mask, other_image, other_mask, rng)
    return augment(image, mask, rng, epoch.augmentation)


def _aligned(sample: Sample) -> Tuple[np.ndarray, Optional[np.ndarray]]:
    """`read_pair_uint8`, with a mask of any size brought to the photo's."""
    image, mask = read_pair_uint8(sample)
    if mask is not None and mask.shape != image.shape[:2]:
        mask = cv2.resize(mask, image.shape[1::-1])
    return image, mask
