"""The one training loop, of tools/train.py and tools/distill.py: they differ in the target alone.

Order of the samples, their augmentation and what the network draws are functions of (seed, step),
so that a run that goes on from a checkpoint equals the one that was never stopped.
"""

import math
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import paddle
from paddle import Tensor

from datasets.augment import RELEASE, STRONG
from datasets.files import InputError, write_atomically
from datasets.loader import Batch, Epoch, batches, count_batches
from datasets.sod import Sample, check_files, list_pairs
from datasets.transform import renormalised
from SCFNet.checkpoint import save_weights
from SCFNet.loss import map_losses, pbsm_kernel, weighted_sum
from SCFNet.training.distributed import any_process, average_over_processes, start_devices
from SCFNet.training.log import Log
from SCFNet.training.recipe import Recipe, sizes_at
from SCFNet.training.state import (
    BEST,
    STATE,
    NotFiniteError,
    Run,
    claimed,
    new_run,
    restore,
    save,
    update_average,
)
from SCFNet.training.validation import evaluate

Target = Callable[[Tensor, Tensor], Tensor]  # (images, masks of the batch) -> what is learnt

STRENGTHS = {"release": RELEASE, "strong": STRONG, "none": None}
COSINE_DELAY_STEPS = 2  # steps: the release's cosine starts that late


def lr_at(
    step: int,
    steps_per_epoch: int,
    epochs: int,
    lr: float = 0.064,
    min_lr: float = 0.00064,
    warmup_epochs: float = 5,
) -> float:
    """The learning rate of `step` (from 0): linear from `min_lr` up to `lr` in `warmup_epochs`,
    then a cosine back to `min_lr`, which the last step has (paper section 4.1).

    As in the release, the cosine begins COSINE_DELAY_STEPS steps after the warm-up.
    """
    total = epochs * steps_per_epoch
    warmup = min(warmup_epochs, epochs) * steps_per_epoch
    if step >= total - 1:
        return min_lr
    if step < warmup:
        return min_lr + (lr - min_lr) * step / warmup
    progress = max(0, step - warmup - COSINE_DELAY_STEPS) / (total - warmup)
    return min_lr + (lr - min_lr) * (1 + math.cos(math.pi * progress)) / 2


def kernel_at(epoch: int, recipe: Recipe) -> int:
    """The thickness of the SP loss's boundary in `epoch` (from 0)."""
    if recipe.boundary.isdigit():
        return int(recipe.boundary)
    return pbsm_kernel(epoch, recipe.epochs, recipe.boundary)


def train_step(
    run: Run,
    recipe: Recipe,
    images: Tensor,
    target: Tensor,
    rate: float,
    kernel: int,
) -> np.ndarray:
    """One step of SGD on `images` [n, 3, H, W] towards `target` [n, 1, H, W] in [0, 1].

    Returns float64: the total loss, then the loss of each of the maps. Several processes average
    gradients, losses and batch norm statistics by their images, so that all stay equal. Raises
    NotFiniteError before any weight changes.
    """
    with paddle.amp.auto_cast(run.scaler.is_enable()):
        maps = run.net(renormalised(images, run.net.normalisation))
    losses = map_losses(maps, target, recipe.loss, kernel)
    total = weighted_sum(losses)
    run.scaler.scale(total).backward()
    values = paddle.stack([total.detach(), *(loss.detach() for loss in losses)])
    if paddle.distributed.get_world_size() > 1:
        values = average_over_processes(run.net, values, images.shape[0])
    values = values.numpy().astype("float64")
    if not np.isfinite(values).all():
        raise NotFiniteError(f"the loss of step {run.step + 1} is not finite: {values[0]}")
    run.optimizer.set_lr(rate)
    run.scaler.step(run.optimizer)
    run.scaler.update()
    run.optimizer.clear_grad()
    run.step += 1
    if run.average:
        update_average(run.average, run.net, min(recipe.ema, (1 + run.step) / (10 + run.step)))
    return values


def train(recipe: Recipe) -> int:
    """Train on the masks of `recipe.data`, as tools/train.py does; see `fit`."""
    start_devices(recipe.device)
    samples, scored = training_samples(recipe)
    return fit(recipe, samples, {"": scored} if scored else {})


def training_samples(recipe: Recipe) -> Tuple[List[Sample], List[Sample]]:
    """The pairs to train on, and those to score on, checked. Raises InputError for faults."""
    samples = list_pairs(recipe.data)
    check_files(samples)
    if recipe.val:
        scored = list_pairs(recipe.val, "test")
        check_files(scored)
        return samples, scored
    return hold_back(samples, recipe.val_fraction)


def hold_back(samples: List[Sample], fraction: float) -> Tuple[List[Sample], List[Sample]]:
    """Split off a random `fraction` of `samples`: the same in every run."""
    order = np.random.default_rng(0).permutation(len(samples))
    held = set(order[: round(fraction * len(samples))].tolist())
    return (
        [sample for i, sample in enumerate(samples) if i not in held],
        [sample for i, sample in enumerate(samples) if i in held],
    )


def fit(
    recipe: Recipe,
    samples: Sequence[Sample],
    scored: Dict[str, Sequence[Sample]],
    target: Optional[Target] = None,
) -> int:
    """Train on `samples`, score on the sets of `scored` each epoch; returns the exit code.

    A set's key is written before the names of its scores; the first set decides what is best.

    `target` gives what a batch's maps are to become, [n, 1, H, W] in [0, 1]; by default the masks.
    Codes: 0 done, 1 the loss was not finite, 130 or 143 stopped by Ctrl-C or SIGTERM, saved.
    Raises InputError for bad input: before the first step, but for files that turn bad later.
    """
    world = paddle.distributed.get_world_size()
    if recipe.batch_size % world:
        raise InputError(f"--batch-size {recipe.batch_size} is not a multiple of {world} processes")
    steps = count_batches(len(samples), recipe.batch_size // world, world)
    run = new_run(recipe)
    begin(run, recipe, steps)
    with claimed(recipe), stop_requests() as stops, Log(recipe, run, len(samples), steps) as log:
        try:
            while len(run.log) < recipe.epochs:
                if train_epoch(run, recipe, samples, steps, target, log, stops):
                    return 128 + stops[0] if stops else 0
                finish_epoch(run, recipe, steps, scored, log)
        except NotFiniteError as error:
            log.write(f"error: {error}; {recipe.output} keeps what was saved before")
            return 1
    return 0


def train_epoch(
    run: Run,
    recipe: Recipe,
    samples: Sequence[Sample],
    steps: int,
    target: Optional[Target],
    log: Log,
    stops: List[int],
) -> bool:
    """Train to the end of the epoch that has no record yet; true where it stopped before, saved."""
    epoch = len(run.log)
    world = paddle.distributed.get_world_size()
    for images, masks in epoch_batches(recipe, samples, epoch, run.step - epoch * steps):
        rate = lr_at(run.step, steps, recipe.epochs, recipe.lr, recipe.min_lr, recipe.warmup_epochs)
        seed_step(recipe.seed, run.step)
        images = paddle.to_tensor(images)
        masks = None if masks is None else paddle.to_tensor(masks)
        wanted = target(images, masks) if target else masks
        losses = train_step(run, recipe, images, wanted, rate, kernel_at(epoch, recipe))
        count = images.shape[0] * world
        run.sums = run.sums + np.append(losses, 1) * count
        log.step(run.step, epoch, losses, rate, count)
        if recipe.dry_run:
            return True
        stop = any_process(bool(stops))
        if stop or (recipe.save_every and run.step % recipe.save_every == 0):
            save(run, recipe, steps)
        if stop:
            stops.append(signal.SIGTERM)  # where another process got the signal
            log.write(f"stopped after step {run.step}, saved; go on with --resume auto")
            return True
    return False


def epoch_batches(
    recipe: Recipe, samples: Sequence[Sample], epoch: int, start: int
) -> Iterator[Batch]:
    """The batches of an epoch from the `start`-th on, of this process."""
    augmentation = STRENGTHS[recipe.augment]
    if augmentation:
        paste = recipe.copy_paste if recipe.copy_paste >= 0 else augmentation.paste
        augmentation = augmentation._replace(paste=paste, zoom=recipe.zoom)
    rank, world = paddle.distributed.get_rank(), paddle.distributed.get_world_size()
    loading = Epoch(
        samples,
        sizes_at(epoch, recipe),
        recipe.batch_size // world,
        recipe.seed,
        epoch,
        augmentation,
        rank,
        world,
    )
    return batches(loading, start, recipe.workers)


def seed_step(seed: int, step: int) -> None:
    """Make what the network draws (drop path) a function of seed, step and process."""
    entropy = [seed, step, paddle.distributed.get_rank()]
    paddle.seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))


def begin(run: Run, recipe: Recipe, steps: int) -> None:
    """Go on from what `--resume` names, or make sure that `--output` can be begun afresh."""
    state = Path(recipe.output, STATE)
    if recipe.resume and recipe.resume != "auto":
        restore(run, Path(recipe.resume), recipe, steps)
    elif recipe.resume and state.exists():
        restore(run, state, recipe, steps)
    elif state.exists() and not recipe.dry_run:
        raise InputError(f"{recipe.output}: holds a run: give --resume auto, or another --output")
    probe = Path(recipe.output, f".probe{paddle.distributed.get_rank()}")
    write_atomically(probe, b"")
    probe.unlink()


def finish_epoch(
    run: Run, recipe: Recipe, steps: int, scored: Dict[str, Sequence[Sample]], log: Log
) -> None:
    """Score, keep the best weights, record the epoch, save."""
    epoch = len(run.log)
    losses = (run.sums[:-1] / run.sums[-1]).tolist()
    record = {"epoch": epoch, "step": run.step, "loss": losses[0], "maps": losses[1:]}
    last = epoch + 1 == recipe.epochs
    if scored and (last or (epoch + 1) % recipe.val_every == 0):
        save(run, recipe, steps)  # scoring takes long
        size = recipe.val_size or run.net.input_size
        scores = {key: evaluate(run.result, some, size) for key, some in scored.items()}
        record.update({key + name: x for key, one in scores.items() for name, x in one.items()})
        first = next(iter(scores.values()))
        quality = first["Max-F"] - first["MAE"]
        if quality > run.best:
            run.best = quality
            if not paddle.distributed.get_rank():
                save_weights(run.result, Path(recipe.output, BEST))
    record["minutes"] = round(run.minutes, 2)
    run.log.append(record)
    run.sums = np.zeros_like(run.sums)
    save(run, recipe, steps)
    log.epoch(run, record, next(iter(scored.values()), []))


@contextmanager
def stop_requests() -> Iterator[List[int]]:
    """The numbers of the signals (SIGINT, SIGTERM) that came. A second Ctrl-C acts at once; a
    second SIGTERM does not: `paddle.distributed.launch` sends three."""
    came: List[int] = []

    def note(number: int, _: Any) -> None:
        came.append(number)
        if number == signal.SIGINT:
            signal.signal(number, before[number])

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
