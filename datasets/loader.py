"""Batches for training: each a pure function of seed, epoch and position, by any worker.

No random state is kept anywhere, so that a run which is resumed at a batch, or has another number
of workers, sees the same pixels.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import cv2
import numpy as np

from datasets.augment import RELEASE, Augmentation, augment, paste_object
from datasets.sod import Sample, read_pair
from SCFNet.errors import InputError
from SCFNet.parallel import in_parallel
from SCFNet.photos.transform import resize_photo

ORDER, SIZE, SAMPLE = range(1, 4)  # the streams of random numbers: [stream, seed, epoch, position]


class Batch(NamedTuple):
    """What a network learns from at once. The arrays hold until the next batch is asked for: its
    memory is used again, as new pages for each would cost as much time as loading.

    images: float32 [N, 3, S, S], RGB in 0..255.
    masks: float32 [N, 1, S, S] in [0, 1], NaN for a sample without one; None if none has one.
    teacher_images: the same views of the photos, float32 [N, 3, T, T], if a teacher has a size T.
    """

    images: np.ndarray
    masks: Optional[np.ndarray]
    teacher_images: Optional[np.ndarray] = None


class Epoch(NamedTuple):
    """One pass over a data set, as one of several processes sees it.

    samples: all of the data set's, for every process.
    sizes: the sides, in pixels, of which one is drawn for each batch.
    batch_size: the images of a batch, of this process alone.
    seed, number: of the run, and of the epoch in it, from 0.
    augmentation: None leaves photos and masks as they are.
    teacher_side: of a teacher's own input, in pixels; 0 if it gets the batch's images.
    rank, world: which process this is, from 0, and of how many.
    leave_out: called with the fault of a file that cannot be read, for which another sample then
        stands in; None raises it.
    """

    samples: Sequence[Sample]
    sizes: Sequence[int]
    batch_size: int
    seed: int = 0
    number: int = 0
    augmentation: Optional[Augmentation] = RELEASE
    teacher_side: int = 0
    rank: int = 0
    world: int = 1
    leave_out: Optional[Callable[[str], object]] = None


def batches(epoch: Epoch, start: int = 0, workers: int = 0) -> Iterator[Batch]:
    """Load the batches of an epoch, from number `start` on, each of one of the epoch's sizes.

    `workers` threads load ahead, up to one batch more than there are threads; 0 loads when asked.
    Threads are enough, because decoding and resizing run outside of Python's
    lock, and unlike processes they survive Paddle, CUDA and Ctrl-C. Raises InputError for a file
    that cannot be read.
    """
    plan = [
        (indices, batch_side(epoch, batch)) for batch, indices in enumerate(epoch_indices(epoch))
    ][start:]
    largest = max((len(indices) for indices, _ in plan), default=0), max(epoch.sizes)
    free: SimpleQueue = SimpleQueue()
    for _ in range(workers + 1):  # as many batches as are under way
        free.put(np.empty(sum(map(math.prod, _shapes(epoch, *largest))), "float32"))

    def load(work: Tuple[np.ndarray, int]) -> Tuple[Batch, np.ndarray]:
        (indices, side), memory = work, free.get()
        return load_batch(epoch, indices, side, memory), memory

    with ThreadPoolExecutor(workers or 1) as pool:
        for batch, memory in in_parallel(load, plan, workers, pool) if workers else map(load, plan):
            yield batch
            free.put(memory)


def count_batches(samples: int, batch_size: int, world: int = 1) -> int:
    """Count the batches, or steps, of an epoch of `samples`, with `batch_size` for each of `world`
    processes.

    The last batch may be smaller. If it would leave a process without any sample, its samples go
    to the batch before it. Raises InputError if there are fewer samples than processes.
    """
    if samples < world:
        raise InputError(f"{samples} samples are too few for {world} processes")
    whole, rest = divmod(samples, batch_size * world)
    return whole if whole and rest < world else whole + 1


def batch_side(epoch: Epoch, batch: int) -> int:
    """Draw the side, in pixels, to which a batch is resized; the same one on all processes."""
    rng = np.random.default_rng([SIZE, epoch.seed, epoch.number, batch])
    return int(rng.choice(epoch.sizes))


def epoch_indices(epoch: Epoch) -> List[np.ndarray]:
    """Shuffle the samples and split them into the batches of this process: indices, each once."""
    total = len(epoch.samples)
    order = np.random.default_rng([ORDER, epoch.seed, epoch.number]).permutation(total)
    count = count_batches(total, epoch.batch_size, epoch.world)
    cuts = epoch.batch_size * epoch.world * np.arange(1, count)
    return [whole[epoch.rank :: epoch.world] for whole in np.split(order, cuts)]


def load_batch(
    epoch: Epoch,
    indices: Union[Sequence[int], np.ndarray],
    side: int,
    memory: Optional[np.ndarray] = None,
) -> Batch:
    """Read, augment and resize samples to `side` x `side`.

    The arrays lie in `memory`, float32 of at least their size together, by default their own.
    """
    shapes = _shapes(epoch, len(indices), side)
    sizes = [math.prod(shape) for shape in shapes]
    if memory is None:
        memory = np.empty(sum(sizes), "float32")
    parts = np.split(memory[: sum(sizes)], np.cumsum(sizes)[:-1])
    images, masks, teacher_images = (x.reshape(shape) for x, shape in zip(parts, shapes))
    masks.fill(np.nan)
    labelled = False
    for i, index in enumerate(indices):
        image, mask = _readable(epoch, int(index))
        resize_photo(image, out=images[i])
        if epoch.teacher_side:
            resize_photo(image, out=teacher_images[i])
        if mask is not None:
            labelled = True
            np.divide(cv2.resize(mask, (side, side)), np.float32(255), out=masks[i, 0])
    return Batch(
        images, masks if labelled else None, teacher_images if epoch.teacher_side else None
    )


def _shapes(epoch: Epoch, count: int, side: int) -> List[Tuple[int, ...]]:
    """Return the shapes of the arrays of a batch of `count` samples."""
    return [(count, c, size, size) for c, size in ((3, side), (1, side), (3, epoch.teacher_side))]


def _readable(epoch: Epoch, index: int) -> Tuple[np.ndarray, Optional[np.ndarray]]:
    """Return what `_augmented` does; if the epoch leaves bad files out, that of the next sample
    whose files can be read.
    """
    for shift in range(len(epoch.samples)):
        try:
            return _augmented(epoch, (index + shift) % len(epoch.samples))
        except InputError as error:
            if not epoch.leave_out:
                raise
            epoch.leave_out(str(error))
    raise InputError("none of the photos can be read any more")


def _augmented(epoch: Epoch, index: int) -> Tuple[np.ndarray, Optional[np.ndarray]]:
    """Read and augment a sample, by random numbers that are its own in each epoch."""
    sample = epoch.samples[index]
    if epoch.augmentation is None:
        return read_pair(sample)
    rng = np.random.default_rng([SAMPLE, epoch.seed, epoch.number, index])
    image, mask = _aligned(sample)
    if rng.random() < epoch.augmentation.paste and mask is not None:
        donor, its_mask = _aligned(epoch.samples[int(rng.integers(len(epoch.samples)))])
        if its_mask is not None:
            image, mask = paste_object(image, mask, donor, its_mask, rng)
    return augment(image, mask, rng, epoch.augmentation)


def _aligned(sample: Sample) -> Tuple[np.ndarray, Optional[np.ndarray]]:
    """Return photo and mask as `read_pair` does, with a map of any size brought to the photo's."""
    image, mask = read_pair(sample)
    if mask is not None and mask.shape != image.shape[:2]:
        mask = cv2.resize(mask, image.shape[1::-1])
    return image, mask
