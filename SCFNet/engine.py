"""The one training loop, of tools/train.py and tools/distill.py: they differ in the target alone.

Order of the samples, their augmentation and what the network draws are functions of (seed, step),
so that a run that goes on from a checkpoint equals the one that was never stopped.
"""

import json
import math
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import cv2
import numpy as np
from tqdm import tqdm

from datasets.augment import RELEASE, STRONG
from datasets.files import InputError, write_atomically
from datasets.loader import Batch, batches, count_batches, normalise
from datasets.sod import Sample, check_files, list_pairs, read_pair
from SCFNet import metrics
from SCFNet.checkpoint import (
    CheckpointError,
    StateDict,
    assign_weights,
    dump_plain,
    load_plain,
    save_weights,
)
from SCFNet.device import paddle, set_device
from SCFNet.loss import map_losses, pbsm_kernel, weighted_sum
from SCFNet.net import SCFNet
from SCFNet.pretrained import load_pretrained
from SCFNet.recipe import Recipe

Tensor = paddle.Tensor
Target = Callable[[Tensor, Tensor], Tensor]  # (images, masks of the batch) -> what is learnt

LAST, BEST, STATE, LOG = "last.pdparams", "best.pdparams", "last.state", "log.jsonl"
STRENGTHS = {"release": RELEASE, "strong": STRONG, "none": None}
GRADIENT_NORM = 5.0  # AdamW's clip
KEPT = {
    "weights",
    "average",
    "optimizer",
    "scaler",
    "step",
    "steps_per_epoch",
    "best",
    "sums",
    "log",
    "recipe",
}  # what `restore` needs of a state file
HOLD = 2  # steps: the release's cosine starts that late


class NotFiniteError(ArithmeticError):
    """The loss is infinite or not a number."""


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

    As in the release, the cosine begins HOLD steps after the warm-up.
    """
    total = epochs * steps_per_epoch
    warmup = min(warmup_epochs, epochs) * steps_per_epoch
    if step >= total - 1:
        return min_lr
    if step < warmup:
        return min_lr + (lr - min_lr) * step / warmup
    progress = max(0, step - warmup - HOLD) / (total - warmup)
    return min_lr + (lr - min_lr) * (1 + math.cos(math.pi * progress)) / 2


def sizes_at(epoch: int, recipe: Recipe) -> Sequence[int]:
    """The sides that batches of `epoch` (from 0) may have."""
    late = recipe.late_sizes and epoch >= recipe.late_from * recipe.epochs
    return recipe.late_sizes if late else recipe.sizes


def kernel_at(epoch: int, recipe: Recipe) -> int:
    """The thickness of the SP loss's boundary in `epoch` (from 0)."""
    if recipe.boundary.isdigit():
        return int(recipe.boundary)
    return pbsm_kernel(epoch, recipe.epochs, recipe.boundary)


@dataclass
class Run:
    """All that changes while training. An epoch is over when it has its record in `log`."""

    net: SCFNet
    average: Optional[SCFNet]  # --ema
    optimizer: paddle.optimizer.Optimizer
    scaler: paddle.amp.GradScaler
    step: int = 0  # done so far
    best: float = -math.inf
    sums: np.ndarray = field(default_factory=lambda: np.zeros(6))  # of this epoch: losses, images
    log: List[Dict[str, Any]] = field(default_factory=list)

    @property
    def result(self) -> SCFNet:
        """The network that is scored and written."""
        return self.average or self.net


def new_run(recipe: Recipe) -> Run:
    """A network with its starting weights, and its optimizer. The weights depend on the seed."""
    paddle.seed(recipe.seed)
    net = SCFNet(backbone=recipe.backbone, decoder=recipe.decoder)
    load_pretrained(net, recipe.pretrained)
    average = None
    if recipe.ema:
        average = SCFNet(backbone=recipe.backbone, decoder=recipe.decoder)
        average.set_state_dict(net.state_dict())
        average.eval()
    world = paddle.distributed.get_world_size()
    if world > 1:
        for tensor in net.state_dict().values():
            paddle.distributed.broadcast(tensor, 0)
        if paddle.get_device().startswith("gpu"):
            net = paddle.nn.SyncBatchNorm.convert_sync_batchnorm(net)
    net.train()
    scaler = paddle.amp.GradScaler(enable=recipe.amp and paddle.get_device().startswith("gpu"))
    return Run(net, average, build_optimizer(net, recipe), scaler)


def build_optimizer(net: SCFNet, recipe: Recipe) -> paddle.optimizer.Optimizer:
    """Momentum SGD with L2 decay, or AdamW; the backbone's rate is scaled by `optimize_attr`."""
    scale = recipe.backbone_lr_scale
    if scale < 0:
        scale = 1.0 if recipe.pretrained == "none" else 0.1
    for parameter in net.bkbone.parameters():
        parameter.optimize_attr["learning_rate"] = scale
    if recipe.optimizer == "adamw":
        undecayed = {p.name for p in net.parameters() if p.regularizer is not None}
        return paddle.optimizer.AdamW(
            recipe.lr,
            parameters=net.parameters(),
            weight_decay=recipe.weight_decay,
            apply_decay_param_fun=lambda name: name not in undecayed,
            grad_clip=paddle.nn.ClipGradByGlobalNorm(GRADIENT_NORM),
        )
    return paddle.optimizer.Momentum(
        recipe.lr,
        recipe.momentum,
        parameters=net.parameters(),
        weight_decay=paddle.regularizer.L2Decay(recipe.weight_decay),
    )


def train_step(
    run: Run,
    recipe: Recipe,
    images: Tensor,
    target: Tensor,
    rate: float,
    kernel: int,
) -> np.ndarray:
    """One step of SGD on `images` [n, 3, H, W] towards `target` [n, 1, H, W] in [0, 1].

    Returns float64 [5]: the total loss and the losses of the four maps. Several processes average
    gradients, losses and batch norm statistics by their images, so that all stay equal. Raises
    NotFiniteError before any weight changes.
    """
    with paddle.amp.auto_cast(run.scaler.is_enable()):
        maps = run.net(images)
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


@paddle.no_grad()
def average_over_processes(net: SCFNet, values: Tensor, images: int) -> Tensor:
    """Average gradients, batch norm statistics and `values`, weighted by each one's `images`.

    One message carries all. Returns the averaged `values`.
    """
    tensors = [p.grad for p in net.parameters() if p.grad is not None]
    tensors += [p for p in net.parameters() if p.stop_gradient]  # Paddle counts statistics here
    flat = [t.flatten() for t in (*tensors, values, paddle.ones([1]))]
    message = paddle.concat(flat) * images
    paddle.distributed.all_reduce(message)
    message /= message[-1]
    *parts, values, _ = paddle.split(message, [math.prod(t.shape) for t in flat])
    for tensor, part in zip(tensors, parts):
        tensor.set_value(part.reshape(tensor.shape))
    return values


@paddle.no_grad()
def update_average(average: SCFNet, net: SCFNet, decay: float) -> None:
    """Move `average` towards `net`: weights, and batch norm statistics alike."""
    for slow, fast in zip(average.state_dict().values(), net.state_dict().values()):
        if slow.dtype == paddle.float32:
            slow.lerp_(fast, 1 - decay)


@paddle.no_grad()
def predict_maps(net: SCFNet, photos: Sequence[np.ndarray], size: int) -> np.ndarray:
    """The saliency maps [n, size, size] in [0, 1] of RGB uint8 `photos`."""
    batch = np.empty((len(photos), 3, size, size), "float32")
    for photo, out in zip(photos, batch):
        normalise(cv2.resize(photo, (size, size)), out)
    return paddle.nn.functional.sigmoid(net(paddle.to_tensor(batch))[0])[:, 0].numpy()


def evaluate(
    net: SCFNet, samples: Sequence[Sample], size: int, batch_size: int = 8
) -> Dict[str, float]:
    """MAE and Max-F (`paper` protocol) of `net` on labelled `samples`, in eval mode at `size`.

    Several processes share the work. Raises InputError for unreadable files.
    """
    mine = samples[paddle.distributed.get_rank() :: paddle.distributed.get_world_size()]
    sums = np.zeros(514)  # images, sum of MAE, of precision [256], of recall [256]
    training = net.training
    net.eval()
    with tqdm(total=len(mine), desc="scoring", leave=False, disable=quiet(), delay=2) as bar:
        for start in range(0, len(mine), batch_size):
            pairs = [read_pair(sample) for sample in mine[start : start + batch_size]]
            for (_, mask), saliency in zip(pairs, predict_maps(net, [p[0] for p in pairs], size)):
                objects = metrics.binarize(mask)
                values = metrics.scale(cv2.resize(saliency, mask.shape[::-1]))
                error = np.abs(values - objects).mean()
                sums += np.concatenate([[1, error], *metrics.precision_recall(values, objects)])
            bar.update(len(pairs))
    if training:
        net.train()
    if paddle.distributed.get_world_size() > 1:
        total = paddle.to_tensor(sums)
        paddle.distributed.all_reduce(total)
        sums = total.numpy()
    mean = sums / sums[0]
    f = metrics.f_measure(mean[2:258], mean[258:])
    return {"MAE": float(mean[1]), "Max-F": float(f.max())}


def quiet() -> Optional[bool]:
    """tqdm's `disable`: a bar on a terminal only, and in the first process only."""
    return True if paddle.distributed.get_rank() else None


def save(run: Run, recipe: Recipe, steps_per_epoch: int) -> None:
    """Write the state, which alone is enough to go on from, then the readable copy of the weights.

    The first process writes, atomically each. Raises InputError where that fails, and
    NotFiniteError where weights are infinite or not numbers: the file is left as it was.
    """
    weights = arrays(run.net.state_dict())
    bad = [key for key, value in weights.items() if not np.isfinite(value).all()]
    if bad:
        raise NotFiniteError(f"after step {run.step} {len(bad)} weights are not finite: {bad[0]}")
    if paddle.distributed.get_rank():
        return
    state = {
        "weights": weights,
        "average": arrays(run.average.state_dict()) if run.average else {},
        "optimizer": optimizer_state(run),
        "scaler": {
            key: np.asarray(value) if hasattr(value, "shape") else value
            for key, value in run.scaler.state_dict().items()
        },
        "step": run.step,
        "steps_per_epoch": steps_per_epoch,
        "best": run.best,
        "sums": run.sums,
        "log": run.log,
        "recipe": asdict(recipe),
        "commit": git_commit(),
        "versions": {"paddle": paddle.__version__, "numpy": np.__version__},
    }
    output = Path(recipe.output)
    write_atomically(output / STATE, dump_plain(state))
    save_weights(run.result, output / LAST)
    write_atomically(output / LOG, "".join(json.dumps(r) + "\n" for r in run.log).encode())


def optimizer_state(run: Run) -> Dict[str, StateDict]:
    """{parameter's key: {what the optimizer keeps of it: array}}.

    Paddle's own keys begin with automatic names, which depend on what was built before.
    """
    kept = run.optimizer.state_dict()
    return {
        key: {
            name[len(parameter.name) :]: np.asarray(tensor.numpy())
            for name, tensor in kept.items()
            if name.startswith(parameter.name + "_")
        }
        for key, parameter in run.net.named_parameters()
    }


def arrays(state: Dict[str, Tensor]) -> StateDict:
    """A state dict's tensors as arrays."""
    return {key: np.asarray(tensor.numpy()) for key, tensor in state.items()}


@lru_cache(maxsize=None)
def git_commit() -> str:
    """The commit of this repository, '-dirty' where files were changed; '' outside of git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip()


def restore(run: Run, path: Path, recipe: Recipe, steps_per_epoch: int) -> None:
    """Make `run` what `save` has written to `path`, and say which flags have changed since.

    Raises CheckpointError for any other file, or one whose network or data was another.
    """
    state = load_plain(path)
    if not isinstance(state, dict) or not state.keys() >= KEPT:
        raise CheckpointError(f"{path}: not a training state; --resume wants a {STATE}")
    was = state["recipe"]
    for name in ("backbone", "decoder", "optimizer"):
        if was[name] != getattr(recipe, name):
            raise CheckpointError(
                f"{path}: is of --{name} {was[name]}, not {getattr(recipe, name)}"
            )
    if state["steps_per_epoch"] != steps_per_epoch:
        raise CheckpointError(
            f"{path}: an epoch had {state['steps_per_epoch']} steps, now it has {steps_per_epoch}: "
            "go on with the same data and --batch-size"
        )
    if bool(state["average"]) != bool(run.average):
        raise CheckpointError(f"{path}: --ema was {was['ema']}, now it is {recipe.ema}")
    assign_weights(run.net, state["weights"], str(path))
    if run.average:
        assign_weights(run.average, state["average"], str(path))
    parameters = dict(run.net.named_parameters())
    run.optimizer.set_state_dict(
        {
            parameters[key].name + name: paddle.to_tensor(array)
            for key, kept in state["optimizer"].items()
            for name, array in kept.items()
        }
    )
    if state["scaler"]:
        run.scaler.load_state_dict(state["scaler"])
    run.step, run.best = state["step"], state["best"]
    run.sums, run.log = state["sums"], state["log"]
    if not paddle.distributed.get_rank():
        now = asdict(recipe)
        changed = [f"--{k} {was.get(k)} -> {now[k]}" for k in now if now[k] != was.get(k)]
        print(f"going on from {path}, step {run.step}", *changed, sep="\n  ")


def train(recipe: Recipe) -> int:
    """Train on the masks of `recipe.data`, as tools/train.py does; see `fit`."""
    start_devices(recipe.device)
    samples, scored = training_samples(recipe)
    return fit(recipe, samples, {"": scored} if scored else {})


def start_devices(device: str) -> None:
    """Choose the device, and join the other processes under `paddle.distributed.launch`."""
    set_device(device)
    if paddle.distributed.get_world_size() > 1:
        paddle.distributed.init_parallel_env()


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
    with stop_requests() as stops, Log(recipe, run, len(samples), steps) as log:
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
    log: "Log",
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
        run.sums += np.append(losses, 1) * count
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
    if augmentation and recipe.copy_paste >= 0:
        augmentation = augmentation._replace(paste=recipe.copy_paste)
    rank, world = paddle.distributed.get_rank(), paddle.distributed.get_world_size()
    return batches(
        samples,
        recipe.batch_size // world,
        sizes_at(epoch, recipe),
        recipe.seed,
        epoch,
        start,
        recipe.workers,
        rank,
        world,
        augmentation,
    )


def seed_step(seed: int, step: int) -> None:
    """Make what the network draws (drop path) a function of seed, step and process."""
    entropy = [seed, step, paddle.distributed.get_rank()]
    paddle.seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))


def any_process(flag: bool) -> bool:
    """Whether `flag` holds in any of the processes."""
    if paddle.distributed.get_world_size() == 1:
        return flag
    total = paddle.to_tensor([float(flag)])
    paddle.distributed.all_reduce(total)
    return float(total) > 0


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
    run: Run, recipe: Recipe, steps: int, scored: Dict[str, Sequence[Sample]], log: "Log"
) -> None:
    """Score, keep the best weights, record the epoch, save."""
    epoch = len(run.log)
    losses = (run.sums[:5] / run.sums[5]).tolist()
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
    record["minutes"] = round(log.minutes(), 2)
    run.log.append(record)
    run.sums = np.zeros(6)
    save(run, recipe, steps)
    log.epoch(run, record, next(iter(scored.values()), []))


class Log:
    """What a run tells: a progress bar, lines, and VisualDL; the first process alone tells."""

    def __init__(self, recipe: Recipe, run: Run, images: int, steps: int) -> None:
        self.recipe = recipe
        self.silent = paddle.distributed.get_rank() > 0
        self.writer = None
        if recipe.log_dir and not self.silent:
            from visualdl import LogWriter

            self.writer = LogWriter(recipe.log_dir)
        done = run.step // steps * images + run.step % steps * recipe.batch_size
        self.bar = tqdm(total=recipe.epochs * images, initial=done, unit="img", disable=quiet())
        self.began, self.seen, self.left = time.time(), 0, recipe.epochs * images - done
        self.minutes_before = run.log[-1]["minutes"] if run.log else 0.0

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        if self.writer:
            self.writer.close()

    def minutes(self) -> float:
        """Since training began, without the pauses."""
        return self.minutes_before + (time.time() - self.began) / 60

    def write(self, line: str) -> None:
        if not self.silent:
            tqdm.write(line)
            sys.stdout.flush()

    def step(self, step: int, epoch: int, losses: np.ndarray, rate: float, images: int) -> None:
        self.bar.set_description(f"epoch {epoch + 1}/{self.recipe.epochs}", refresh=False)
        self.bar.set_postfix(loss=f"{losses[0]:.4f}", rate=f"{rate:.2g}", refresh=False)
        self.bar.update(images)
        self.seen += images
        speed = self.seen / (time.time() - self.began)
        if self.recipe.log_every and step % self.recipe.log_every == 0:
            maps = " ".join(f"{loss:.6f}" for loss in losses[1:])
            left = tqdm.format_interval((self.left - self.seen) / speed)
            self.write(f"epoch {epoch + 1} step {step} rate {rate:.6f} loss {losses[0]:.6f} "
                       f"maps {maps} {speed:.1f} images/s, {left} left")  # fmt: skip
        if self.writer:
            self.writer.add_scalar("train/rate", rate, step)
            for name, loss in zip(("total", "m2", "m3", "m4", "m5"), losses):
                self.writer.add_scalar(f"train/{name}", loss, step)
            self.writer.add_scalar("train/images_per_second", speed, step)

    def epoch(self, run: Run, record: Dict[str, Any], shown: Sequence[Sample]) -> None:
        self.write(json.dumps(record))
        if not self.writer:
            return
        for name in record:
            if name.endswith(("MAE", "Max-F")):
                self.writer.add_scalar(f"val/{name}", record[name], run.step)
        for i, picture in enumerate(pictures(run.result, shown[:4])):
            self.writer.add_image(f"maps/{i}", picture, run.step)


def pictures(net: SCFNet, samples: Sequence[Sample], size: int = 224) -> List[np.ndarray]:
    """Photo, mask and predicted map of each sample side by side, uint8 [size, 3 * size, 3]."""
    found = []
    training = net.training
    net.eval()
    for sample in samples:
        image, mask = read_pair(sample)
        saliency = predict_maps(net, [image], net.input_size)[0]
        grey = [cv2.resize(m, (size, size)) * 255 for m in (mask, saliency)]
        panels = [cv2.resize(image, (size, size)), *(np.dstack([g] * 3) for g in grey)]
        found.append(np.concatenate(panels, 1).astype("uint8"))
    if training:
        net.train()
    return found


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
