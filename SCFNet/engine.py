"""The one training loop, of tools/train.py and tools/distill.py: they differ in the target alone.

Order of the samples, their augmentation and what the network draws are functions of (seed, step),
so that a run that goes on from a checkpoint equals the one that was never stopped.
"""

import itertools
import math
import time
from pathlib import Path
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import numpy as np
import paddle
from paddle import Tensor

from datasets.augment import RELEASE, STRONG
from datasets.loader import Batch, Epoch, batches, count_batches
from datasets.sod import Sample, check_files, list_pairs
from SCFNet.checkpoint import save_weights
from SCFNet.errors import ArgumentError, InputError, NotFiniteError
from SCFNet.loss import loss_terms, map_losses, weighted_sum
from SCFNet.photos.transform import normalise
from SCFNet.training.claim import Claim, claimed
from SCFNet.training.distributed import (
    average_over_processes,
    largest_over_processes,
    start_devices,
)
from SCFNet.training.log import Log, rehearsal
from SCFNet.training.recipe import Recipe
from SCFNet.training.resume import restore
from SCFNet.training.schedules import kernel_at, lr_at, sizes_at
from SCFNet.training.state import (
    BEST,
    STATE,
    Run,
    new_run,
    samples_digest,
    save,
    update_average,
)
from SCFNet.training.stopping import stop_requests
from SCFNet.training.validation import evaluate

Target = Callable[[Tensor, Optional[Tensor]], Tensor]  # (images, masks) -> what is learnt
ScoredSets = Mapping[str, Sequence[Sample]]  # by what is written before the names of their scores

STRENGTHS = {"release": RELEASE, "strong": STRONG, "none": None}
DIGITS = 5  # after the point, of what is recorded of an epoch
REHEARSED = 2  # steps of a dry run, of which the last is timed


class Work(NamedTuple):
    """What a run works through, the same from its first step to its last."""

    recipe: Recipe
    samples: Sequence[Sample]
    scored: ScoredSets
    target: Optional[Target]  # the masks if None
    steps_per_epoch: int
    digest: str  # of the samples


def train_step(
    run: Run, recipe: Recipe, images: Tensor, target: Tensor, lr: float, kernel_size: int
) -> np.ndarray:
    """Do one step of the optimizer.

    Returns float64: the total loss, then the loss of each of the maps. Several processes average
    gradients, losses and batch norm statistics by their images, so that all stay equal.

    Args:
        run: changed in place.
        recipe: says which loss, and how weights are averaged.
        images: float32 [N, 3, H, W], RGB in 0..255.
        target: float32 [N, 1, H, W] in [0, 1].
        lr: the learning rate.
        kernel_size: of SP's boundary, odd.

    Raises NotFiniteError before any weight changes.
    """
    with paddle.amp.auto_cast(run.scaler.is_enable()):
        maps = run.net(normalise(images, run.net.normalisation))
    losses = map_losses(maps, target, recipe.loss, kernel_size)
    total = weighted_sum(losses)
    run.scaler.scale(total).backward()
    values = paddle.stack([total.detach(), *(loss.detach() for loss in losses)])
    if paddle.distributed.get_world_size() > 1:
        values = average_over_processes(run.net, values, images.shape[0])
    values = values.numpy().astype("float64")
    if not np.isfinite(values).all():
        raise NotFiniteError(f"the loss of step {run.step + 1} is not finite: {values[0]}")
    run.optimizer.set_lr(lr)
    run.scaler.step(run.optimizer)
    run.scaler.update()
    run.optimizer.clear_grad()
    run.step += 1
    if run.average:
        update_average(run.average, run.net, min(recipe.ema, (1 + run.step) / (10 + run.step)))
    return values


def train(recipe: Recipe) -> int:
    """Train on the masks of `recipe.data`, as tools/train.py does; see `fit`."""
    prepare(recipe)
    samples, scored = training_samples(recipe)
    return fit(recipe, samples, {"": scored} if scored else {})


def prepare(recipe: Recipe) -> None:
    """Choose the device and join the other processes.

    Raises ArgumentError for a device that is not there, or a loss that is not known.
    """
    try:
        loss_terms(recipe.loss)
    except ValueError as error:
        raise ArgumentError("loss", str(error)) from error
    start_devices(recipe.device)


def training_samples(recipe: Recipe) -> Tuple[List[Sample], List[Sample]]:
    """List and check the pairs to train on, and those to score on. Raises InputError for faults."""
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
    scored: ScoredSets,
    target: Optional[Target] = None,
) -> int:
    """Train on `samples`; returns the exit code.

    Codes: 0 done, 1 the loss was not finite, 128 and its number a signal stopped the run, which is
    saved. Raises InputError for bad input: before the first step, but for files that turn bad
    later.

    Args:
        recipe: how to train, and into which folder to write.
        samples: what to train on.
        scored: sets that are scored each epoch, by what is written before the names of their
            scores. The first one decides which weights are the best.
        target: what a batch's maps are to become, [n, 1, H, W] in [0, 1]; by default the masks.
    """
    world = paddle.distributed.get_world_size()
    if recipe.batch_size % world:
        raise ArgumentError(
            "batch_size",
            f"{recipe.batch_size} is not a multiple of {world}, the number of processes",
        )
    steps = count_batches(len(samples), recipe.batch_size // world, world)
    work = Work(recipe, samples, scored, target, steps, samples_digest(samples))
    run = new_run(recipe)
    with claimed(recipe) as claim:
        begin(run, work)
        with stop_requests() as stops, Log(recipe, run, len(samples), steps) as log:
            try:
                if recipe.dry_run:
                    rehearse(run, work, log)
                    return 0
                if len(run.log) >= recipe.epochs:
                    log.write(f"{recipe.output}: all {recipe.epochs} epochs were done before")
                while len(run.log) < recipe.epochs:
                    stopped_by = train_epoch(run, work, log, stops, claim)
                    if stopped_by:
                        return 128 + stopped_by
                    finish_epoch(run, work, log, claim)
            except NotFiniteError as error:
                log.write(f"error: {error}; {recipe.output} keeps what was saved before")
                return 1
            log.done(run)
    return 0


def begin(run: Run, work: Work) -> None:
    """Go on from the state that `recipe.resume` names, or make sure that no run would be lost."""
    recipe, state = work.recipe, Path(work.recipe.output, STATE)
    if recipe.resume and recipe.resume != "auto":
        restore(run, Path(recipe.resume), recipe, work.steps_per_epoch, work.digest)
    elif recipe.resume and state.exists():
        restore(run, state, recipe, work.steps_per_epoch, work.digest)
    elif state.exists() and not recipe.dry_run:
        raise InputError(f"{recipe.output}: holds a run: give --resume auto, or another --output")


def train_epoch(run: Run, work: Work, log: Log, stops: List[int], claim: Optional[Claim]) -> int:
    """Train to the end of the epoch that has no record yet.

    Returns 0, or the number of the signal that stopped it before, after which it was saved.
    """
    recipe, epoch = work.recipe, len(run.log)
    start = run.step - epoch * work.steps_per_epoch
    for images, masks in epoch_batches(work, epoch, sizes_at(epoch, recipe), start):
        lr = lr_at(
            run.step,
            work.steps_per_epoch,
            recipe.epochs,
            recipe.lr,
            recipe.min_lr,
            recipe.warmup_epochs,
        )
        losses = learn(run, work, images, masks, lr)
        count = len(images) * paddle.distributed.get_world_size()
        run.sums = run.sums + np.append(losses, 1) * count
        log.step(run.step, epoch, losses, lr, count)
        stopped_by = largest_over_processes(stops[0] if stops else 0)
        if stopped_by or (recipe.save_every and run.step % recipe.save_every == 0):
            keep(run, work, claim)
        if stopped_by:
            log.write(f"stopped after step {run.step}, saved; go on with --resume auto")
            return stopped_by
    return 0


def learn(
    run: Run, work: Work, images: np.ndarray, masks: Optional[np.ndarray], lr: float
) -> np.ndarray:
    """Do the step of a batch as it is loaded; see `train_step`."""
    seed_step(work.recipe.seed, run.step)
    batch = paddle.to_tensor(images)
    target = None if masks is None else paddle.to_tensor(masks)
    if work.target:
        target = work.target(batch, target)
    return train_step(run, work.recipe, batch, target, lr, kernel_at(len(run.log), work.recipe))


def epoch_batches(work: Work, epoch: int, sizes: Sequence[int], start: int = 0) -> Iterator[Batch]:
    """Load the batches of an epoch from the `start`-th on, of this process."""
    recipe = work.recipe
    augmentation = STRENGTHS[recipe.augment]
    if augmentation:
        paste = augmentation.paste if recipe.copy_paste is None else recipe.copy_paste
        augmentation = augmentation._replace(
            paste=paste, zoom=recipe.zoom, vertical_flip=recipe.vertical_flip
        )
    rank, world = paddle.distributed.get_rank(), paddle.distributed.get_world_size()
    loading = Epoch(
        work.samples,
        sizes,
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


def rehearse(run: Run, work: Work, log: Log) -> None:
    """Do a few steps at the largest size and tell what the whole run takes; write nothing."""
    side = max(*work.recipe.sizes, *work.recipe.late_sizes)
    seconds = math.nan
    epochs = (epoch_batches(work, epoch, [side]) for epoch in range(REHEARSED))
    start = time.perf_counter()
    for images, masks in itertools.islice(itertools.chain.from_iterable(epochs), REHEARSED):
        learn(run, work, images, masks, work.recipe.min_lr)
        now = time.perf_counter()
        seconds, start = now - start, now
    photos, scored = len(work.samples), sum(map(len, work.scored.values()))
    for line in rehearsal(run, work.recipe, photos, scored, work.steps_per_epoch, seconds):
        log.write(line)


def finish_epoch(run: Run, work: Work, log: Log, claim: Optional[Claim]) -> None:
    """Score, keep the best weights, record the epoch, save."""
    recipe, epoch = work.recipe, len(run.log) + 1
    losses = (run.sums[:-1] / run.sums[-1]).tolist()
    record: Dict[str, Any] = {"epoch": epoch, "step": run.step}
    record.update(loss=losses[0], maps=losses[1:])
    if work.scored and (epoch == recipe.epochs or epoch % recipe.val_every == 0):
        keep(run, work, claim)  # scoring takes long
        size = recipe.val_size or run.net.input_size
        scores = {key: evaluate(run.result, some, size) for key, some in work.scored.items()}
        record.update({key + name: x for key, one in scores.items() for name, x in one.items()})
        first = next(iter(scores.values()))
        quality = first["Max-F"] - first["MAE"]
        if quality > run.best:
            run.best = quality
            if not paddle.distributed.get_rank():
                save_weights(run.result, Path(recipe.output, BEST))
    record["minutes"] = round(run.minutes, 2)
    run.log.append(rounded(record))
    run.sums = np.zeros_like(run.sums)
    keep(run, work, claim)
    log.epoch(run, next(iter(work.scored.values()), []))


def rounded(record: Dict[str, Any]) -> Dict[str, Any]:
    """Round a record to DIGITS after the point, as it is written and shown."""

    def short(value: Any) -> Any:
        if isinstance(value, list):
            return [short(item) for item in value]
        return round(value, DIGITS) if isinstance(value, float) else value

    return {name: short(value) for name, value in record.items()}


def keep(run: Run, work: Work, claim: Optional[Claim]) -> None:
    """Save the run, if the folder is still its own. Raises InputError as `Claim.renew` does."""
    if claim:
        claim.renew()
    save(run, work.recipe, work.steps_per_epoch, work.digest)
