"""The one training loop, of tools/train.py and tools/distill.py: they differ in the target alone.

Order of the samples, their augmentation and what the network draws are functions of (seed, step),
so that a run that goes on from a checkpoint equals the one that was never stopped.
"""

import itertools
import math
import time
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import numpy as np
import paddle
from paddle import Tensor

from datasets.augment import PAPER, RELEASE, STRONG
from datasets.loader import Batch, Epoch, batches
from datasets.sod import Sample, check_files, list_pairs
from SCFNet.device import on_gpu, to_device
from SCFNet.errors import ArgumentError, InputError, NotFiniteError, is_memory_short
from SCFNet.loss import loss_terms, map_losses, weighted_sum
from SCFNet.photos.transform import normalise
from SCFNet.training.distributed import (
    average_over_processes,
    largest_over_processes,
    say,
    say_once,
    start_devices,
)
from SCFNet.training.log import Log, rehearsal
from SCFNet.training.output import OutputFolder
from SCFNet.training.recipe import Recipe
from SCFNet.training.schedules import kernel_at, lr_at, sizes_at
from SCFNet.training.state import (
    DIGITS,
    Run,
    Step,
    new_run,
    quality,
    update_average,
)
from SCFNet.training.stopping import stop_requests
from SCFNet.training.validation import evaluate

STRENGTHS = {"release": RELEASE, "paper": PAPER, "strong": STRONG, "none": None}
SKIPS = 50  # steps in a row that a loss scaler may skip: by then its scale is at its least
REHEARSED = 2  # steps of a dry run, of which the last is timed


def train(recipe: Recipe) -> int:
    """Train on the masks of `recipe.data`, as tools/train.py does; return what `fit` does."""
    prepare(recipe)
    samples, scored = training_samples(recipe)
    return fit(new_run(recipe, samples, {"": scored} if scored else {}))


def prepare(recipe: Recipe) -> None:
    """Choose the device and join the other processes.

    Raises ArgumentError for a device that is not there, or a loss that is not known.
    """
    try:
        loss_terms(recipe.loss)
    except ValueError as error:
        raise ArgumentError("loss", str(error)) from error
    start_devices(recipe.device, recipe.deterministic)


def training_samples(recipe: Recipe) -> Tuple[List[Sample], List[Sample]]:
    """List and check the pairs to train on, and those to score on. Raises InputError for faults."""
    skip = recipe.skip_unreadable
    samples = check_files(list_pairs(recipe.data, say=say), skip, say)
    if recipe.val:
        return samples, check_files(list_pairs(recipe.val, "test", say=say), skip, say)
    return hold_back(samples, recipe.val_fraction)


def hold_back(samples: List[Sample], fraction: float) -> Tuple[List[Sample], List[Sample]]:
    """Split off a random `fraction` of the photos in `samples`, each once: the same in every run.

    Raises ArgumentError for a fraction, other than 0, that takes none or all of them.
    """
    photos = {sample.image: sample for sample in samples}
    count = round(fraction * len(photos))
    if fraction and count in (0, len(photos)):
        part = "all" if count else "none"
        raise ArgumentError("val_fraction", f"{fraction} holds back {part} of {len(photos)} photos")
    order = np.random.default_rng(0).permutation(len(photos))
    held = set(order[:count].tolist())
    scored = {image: sample for i, (image, sample) in enumerate(photos.items()) if i in held}
    return [one for one in samples if one.image not in scored], list(scored.values())


def fit(run: Run) -> int:
    """Train, and return the exit code: 0 when done, 1 if a loss was not finite, 128 and the number
    of the signal that stopped the run, which is then saved.

    Raises InputError for bad input: before the first step, but for files that turn bad later.
    """
    recipe = run.recipe
    with OutputFolder(recipe) as output:
        output.begin(run)
        with stop_requests() as stops, Log(run) as log:
            try:
                if recipe.dry_run:
                    return rehearse(run, log)
                return train_epochs(run, output, log, stops)
            except (MemoryError, RuntimeError) as error:
                if not is_memory_short(error):
                    raise
                raise InputError(
                    f"memory is short for a step of {recipe.batch_size} images of "
                    f"{largest_side(recipe)} px on {paddle.get_device()}: give --accumulate "
                    f"{2 * recipe.accumulate}, or a smaller --batch-size or --sizes"
                ) from error
            except NotFiniteError as error:
                log.write(f"error: {error}; {recipe.output} keeps what was saved before")
                return 1


def train_epochs(run: Run, output: OutputFolder, log: Log, stops: Sequence[int]) -> int:
    """Train until all epochs are done, or one of `stops` has come; return what `fit` does."""
    recipe = run.recipe
    if run.is_done:
        log.write(f"{recipe.output}: all {run.epoch} epochs were done before")
    if run.step == 0 and run.starts_whole and run.scored:
        log.scores("start", validate(run, output))
    while not run.is_done:
        start = run.step - run.epoch * run.steps_per_epoch  # not 0 if the run was stopped within
        begun: List[Step] = []  # whose losses were not fetched yet
        sizes = sizes_at(run.epoch, recipe)
        for batch in to_device(epoch_batches(run, run.epoch, sizes, start)):
            begun.append(learn(run, batch, lr_at(run.step, run.steps_per_epoch, recipe)))
            stopped_by = largest_over_processes(stops[0] if stops else 0)
            saves = stopped_by or (recipe.save_every and run.step % recipe.save_every == 0)
            if saves or losses_are_due(run):
                for step, values in zip(begun, fetch_losses(run, begun)):
                    log.step(run.epoch + 1, step, values)
                begun = []
            if saves:
                output.save(run)
            if stopped_by:
                log.write(f"stopped after step {run.step}, saved; go on with --resume auto")
                return 128 + stopped_by
        if not run.sums[-1]:
            raise NotFiniteError(f"no loss of epoch {run.epoch + 1} was finite")
        loss, *maps = (run.sums[:-1] / run.sums[-1]).round(DIGITS).tolist()
        record = {"epoch": run.epoch + 1, "step": run.step, "loss": loss, "maps": maps}
        if run.scored and (
            record["epoch"] == recipe.epochs or record["epoch"] % recipe.val_every == 0
        ):
            output.save(run)  # scoring takes long
            record.update(validate(run, output))
        record["minutes"] = round(run.minutes, 2)
        run.log.append(record)
        run.sums = np.zeros_like(run.sums)
        output.save(run)
        output.save_epoch(run)
        log.epoch(run)
        if run.is_done and run.epoch < recipe.epochs:
            log.write(f"stopped: {recipe.patience} scorings in a row were not the best")
    log.done(run)
    return 0


def losses_are_due(run: Run) -> bool:
    """Return whether to wait for the losses after this step: on a GPU when they are printed, and
    after an epoch; a CPU is not waited for.
    """
    often = run.recipe.log_every or run.steps_per_epoch
    return not on_gpu() or run.step % often == 0 or run.step % run.steps_per_epoch == 0


def fetch_losses(run: Run, begun: Sequence[Step]) -> Iterator[np.ndarray]:
    """Wait for the device, then add up and yield the losses of each step, float64 [1 + maps].

    Nothing is saved before all losses so far have come here. Raises NotFiniteError for the first
    step whose losses are not finite, in mixed precision after SKIPS such steps in a row.
    """
    for step, values in zip(begun, paddle.stack([step.losses for step in begun]).numpy()):
        losses = values.astype("float64")
        finite = np.isfinite(losses).all()
        run.skipped = 0 if finite else run.skipped + 1
        if run.skipped > (SKIPS if run.scaler.is_enable() else 0):
            raise NotFiniteError(f"the loss of step {step.number} is not finite: {losses[0]}")
        if finite:
            run.sums = run.sums + np.append(losses, 1) * step.images
        yield losses


def learn(run: Run, batch: Sequence[Any], lr: float) -> Step:
    """Seed the step of a batch, the tensors of a `Batch`, find its target, and begin the step."""
    seed_step(run.recipe.seed, run.step)
    images, target, teacher_images = batch
    if run.target:
        target = run.target(images, target, images if teacher_images is None else teacher_images)
    losses = train_step(run, images, target, lr, kernel_at(run.epoch, run.recipe))
    count = images.shape[0] * paddle.distributed.get_world_size()
    return Step(losses, run.step, lr, count, time.time())


def train_step(run: Run, images: Tensor, target: Tensor, lr: float, kernel_size: int) -> Tensor:
    """Run one step of the optimizer; return the total loss and each map's, float32 [1 + maps].

    Several processes average gradients, losses and batch norm statistics by their images, so that
    all stay equal. The images are worked through in `recipe.accumulate` parts, whose gradients are
    averaged alike; batch norm sees each by itself. In mixed precision a step whose gradients
    overflow changes no weight.

    Args:
        run: changed in place.
        images: float32 [N, 3, H, W], RGB in 0..255.
        target: float32 [N, 1, H, W] in [0, 1].
        lr: the learning rate.
        kernel_size: of SP's boundary, odd.
    """
    count = images.shape[0]
    size = -(-count // run.recipe.accumulate)
    values: Any = 0
    for start in range(0, count, size):
        part = slice(start, start + size)
        with paddle.amp.auto_cast(run.scaler.is_enable()):
            maps = run.net(normalise(images[part], run.net.normalisation))
        losses = map_losses(maps, target[part], run.recipe.loss, kernel_size)
        total = weighted_sum(losses)
        share = maps[0].shape[0] / count
        run.scaler.scale(total * share).backward()
        values += paddle.stack([total.detach(), *(loss.detach() for loss in losses)]) * share
    if paddle.distributed.get_world_size() > 1:
        values = average_over_processes(run.net, values, count)
    run.optimizer.set_lr(lr)
    run.scaler.step(run.optimizer)
    run.scaler.update()
    run.optimizer.clear_grad()
    run.step += 1
    if run.average:
        decay = min(run.recipe.ema, (1 + run.step) / (10 + run.step))
        update_average(run.average, run.net, decay)
    return values


def validate(run: Run, output: OutputFolder) -> Dict[str, float]:
    """Score all sets, write the weights if they are the best so far, and return MAE and Max-F by
    name, rounded to DIGITS after the point.
    """
    size = run.recipe.val_size or run.net.input_size
    scores: Dict[str, float] = {}
    for prefix, samples in run.scored.items():
        for name, value in evaluate(run.result, samples, size).items():
            scores[prefix + name] = round(value, DIGITS)
    if quality(scores) > run.best:
        run.best = quality(scores)
        output.save_best(run)
    return scores


def epoch_batches(run: Run, epoch: int, sizes: Sequence[int], start: int = 0) -> Iterator[Batch]:
    """Load the batches of an epoch from the `start`-th on, of this process."""
    recipe = run.recipe
    augmentation = STRENGTHS[recipe.augment]
    if augmentation:
        paste = augmentation.paste if recipe.copy_paste is None else recipe.copy_paste
        augmentation = augmentation._replace(
            paste=paste, zoom=recipe.zoom, vertical_flip=recipe.vertical_flip
        )
    rank, world = paddle.distributed.get_rank(), paddle.distributed.get_world_size()
    loading = Epoch(
        run.samples,
        sizes,
        recipe.batch_size // world,
        recipe.seed,
        epoch,
        augmentation,
        run.teacher_side,
        rank,
        world,
        say_once if recipe.skip_unreadable else None,
    )
    return batches(loading, start, recipe.workers)


def seed_step(seed: int, step: int) -> None:
    """Seed the network's own draws (drop path) by seed, step and process."""
    entropy = [seed, step, paddle.distributed.get_rank()]
    paddle.seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))


def rehearse(run: Run, log: Log) -> int:
    """Run a few steps at the largest size, print what the whole run takes, and return 0."""
    side = largest_side(run.recipe)
    seconds = math.nan
    epochs = (epoch_batches(run, epoch, [side]) for epoch in range(REHEARSED))
    start = time.perf_counter()
    for batch in to_device(itertools.islice(itertools.chain.from_iterable(epochs), REHEARSED)):
        list(fetch_losses(run, [learn(run, batch, run.recipe.min_lr)]))
        now = time.perf_counter()
        seconds, start = now - start, now
    for line in rehearsal(run, seconds):
        log.write(line)
    return 0


def largest_side(recipe: Recipe) -> int:
    """Return the largest side of the input in a run, in pixels."""
    return max((*recipe.sizes, *recipe.late_sizes))
