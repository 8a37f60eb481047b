"""A training run: its network, optimizer, averaged weights and progress, and its saved state."""

import hashlib
import json
import math
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence

import numpy as np
import paddle
from paddle import Tensor

from datasets.loader import count_batches
from datasets.sod import Sample
from SCFNet.checkpoint import StateDict
from SCFNet.device import on_gpu
from SCFNet.errors import ArgumentError, NotFiniteError
from SCFNet.net import BACKBONE_LR_SCALE, SaliencyNet
from SCFNet.training.pretrained import load_pretrained
from SCFNet.training.recipe import Recipe
from SCFNet.zoo import build_network

# (images, masks, the images that a teacher gets) -> what is learnt
Target = Callable[[Tensor, Optional[Tensor], Tensor], Tensor]
ScoredSets = Mapping[str, Sequence[Sample]]  # by what is written before the names of their scores

LAST, BEST, STATE, LOG = "last.pdparams", "best.pdparams", "last.state", "log.jsonl"
DIGITS = 5  # after the point, of what is recorded of an epoch
GRADIENT_NORM = 5.0  # AdamW's clip


class Step(NamedTuple):
    """A step that was begun; a GPU may be at work on it.

    losses: on the device, [1 + maps]: the total, then each map's.
    number: from 1, in the run.
    lr: the learning rate.
    images: of the batch, over all processes.
    time: when it was begun, in seconds since the epoch of `time.time`.
    """

    losses: Tensor
    number: int
    lr: float
    images: int
    time: float


@dataclass
class Run:
    """A training run: its recipe, networks, data and progress.

    An epoch is over when it has its record in `log`.
    """

    recipe: Recipe
    net: SaliencyNet
    average: Optional[SaliencyNet]  # of the weights, if the recipe has an `ema`
    optimizer: paddle.optimizer.Optimizer
    scaler: paddle.amp.GradScaler
    samples: Sequence[Sample]
    scored: ScoredSets
    target: Optional[Target]  # the masks if None
    teacher_side: int
    steps_per_epoch: int
    digest: str  # of the samples
    starts_whole: bool  # from the weights of a whole network
    step: int = 0  # done so far
    skipped: int = 0  # steps in a row, by the loss scaler
    best: float = -math.inf  # quality of the scores so far
    sums: np.ndarray = field(default_factory=lambda: np.zeros(1))  # of this epoch: losses, images
    log: List[Dict[str, Any]] = field(default_factory=list)
    began: float = field(default_factory=time.time)  # or would have, without the pauses

    @property
    def epoch(self) -> int:
        """The epochs that are over, which is the number of the one under way, from 0."""
        return len(self.log)

    @property
    def best_epoch(self) -> int:
        """Number of the best epoch, from 1; 0 if the start is better, or nothing was scored."""
        best = max(self.log, key=quality, default={})
        return best["epoch"] if quality(best) > self.best - 2 * 10**-DIGITS else 0

    @property
    def is_done(self) -> bool:
        """Whether all epochs are over, or `patience` scorings have passed since the best."""
        recipe = self.recipe
        since = [record for record in self.log[self.best_epoch :] if quality(record) > -math.inf]
        return self.epoch >= recipe.epochs or 0 < recipe.patience <= len(since)

    @property
    def minutes(self) -> float:
        """Minutes since training began, without the pauses."""
        return (time.time() - self.began) / 60

    @property
    def result(self) -> SaliencyNet:
        """The network that is scored and written."""
        return self.average or self.net


def new_run(
    recipe: Recipe,
    samples: Sequence[Sample] = (),
    scored: Optional[ScoredSets] = None,
    target: Optional[Target] = None,
    teacher_side: int = 0,
) -> Run:
    """Begin a run: build the network, with its starting weights by the seed, and its optimizer.

    Args:
        recipe: how to train, and into which folder to write.
        samples: what to train on; without any, single steps can be done.
        scored: sets that are scored each epoch, by what is written before the names of their
            scores. The first one decides which weights are the best.
        target: what a batch's maps are to become, [n, 1, H, W] in [0, 1]; by default the masks.
        teacher_side: of the photos that `target` gets, in pixels; 0 if they are the batch's images.

    Raises ArgumentError for a batch that the processes cannot share, and InputError for fewer
    samples than processes.
    """
    world = paddle.distributed.get_world_size()
    if recipe.batch_size % world:
        raise ArgumentError(
            "batch_size",
            f"{recipe.batch_size} is not a multiple of {world}, the number of processes",
        )
    paddle.seed(recipe.seed)
    net = build_network(recipe.model, recipe.decoder)
    starts_whole = load_pretrained(net, recipe.pretrained)
    average = None
    if recipe.ema:
        average = build_network(recipe.model, recipe.decoder)
        average.set_state_dict(net.state_dict())
        average.eval()
    if world > 1:
        for tensor in net.state_dict().values():
            paddle.distributed.broadcast(tensor, 0)
        if on_gpu():
            net = paddle.nn.SyncBatchNorm.convert_sync_batchnorm(net)
    net.train()
    return Run(
        recipe,
        net,
        average,
        build_optimizer(net, recipe),
        paddle.amp.GradScaler(enable=recipe.amp and on_gpu()),
        samples,
        scored or {},
        target,
        teacher_side,
        count_batches(len(samples), recipe.batch_size // world, world) if samples else 0,
        samples_digest(samples),
        starts_whole,
    )


def quality(scores: Mapping[str, Any]) -> float:
    """Compute Max-F less MAE of the set that was scored first; minus infinity if none was."""
    mae = next((name for name in scores if name.endswith("MAE")), None)
    return -math.inf if mae is None else scores[mae.replace("MAE", "Max-F")] - scores[mae]


def build_optimizer(net: SaliencyNet, recipe: Recipe) -> paddle.optimizer.Optimizer:
    """Build momentum SGD with L2 decay, or AdamW; the backbone's learning rate is scaled."""
    scale = recipe.backbone_lr_scale
    if scale is None:
        scale = 1.0 if recipe.pretrained == "none" else BACKBONE_LR_SCALE
    net.scale_backbone_lr(scale)
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


@paddle.no_grad()
def update_average(average: SaliencyNet, net: SaliencyNet, decay: float) -> None:
    """Move `average` towards `net`: weights, and batch norm statistics alike."""
    for slow, fast in zip(average.state_dict().values(), net.state_dict().values()):
        if slow.dtype == paddle.float32:
            slow.lerp_(fast, 1 - decay)


def state_of(run: Run) -> Dict[str, Any]:
    """Collect the state from which `resume.restore` goes on as if the run had never been stopped.

    Raises NotFiniteError if weights are infinite or not numbers.
    """
    weights = arrays(run.net.state_dict())
    bad = [key for key, value in weights.items() if not np.isfinite(value).all()]
    if bad:
        raise NotFiniteError(f"after step {run.step} {len(bad)} weights are not finite: {bad[0]}")
    state = {
        "weights": weights,
        "average": arrays(run.average.state_dict()) if run.average else {},
        "optimizer": optimizer_state(run),
        "scaler": {
            key: np.asarray(value) if hasattr(value, "shape") else value
            for key, value in run.scaler.state_dict().items()
        },
        "step": run.step,
        "steps_per_epoch": run.steps_per_epoch,
        "data": run.digest,
        "best": run.best,
        "sums": run.sums,
        "log": run.log,
        "minutes": run.minutes,
        "recipe": asdict(run.recipe),
        "versions": {"paddle": paddle.__version__, "numpy": np.__version__},
    }
    return {**state, "sha256": state_digest(state)}


def state_digest(state: Dict[str, Any]) -> str:
    """Compute the SHA-256, in hex, of a state without its own digest.

    Raises TypeError or ValueError for what no state holds.
    """

    def describe(array: Any) -> str:
        array = np.ascontiguousarray(array)
        return f"{array.dtype.str} {array.shape} {hashlib.sha256(array).hexdigest()}"

    content = {key: value for key, value in state.items() if key != "sha256"}
    text = json.dumps(content, default=describe, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def samples_digest(samples: Sequence[Sample]) -> str:
    """Compute a digest of names, order, and the sizes in bytes of photos and masks."""
    total = hashlib.sha256()
    for sample in samples:
        mask = None if sample.is_map else sample.mask  # a teacher's map may be made again
        sizes = [path.stat().st_size for path in (sample.image, mask) if path]
        total.update(f"{sample.stem} {sizes}\n".encode("utf-8", "surrogateescape"))
    return f"{len(samples)} {total.hexdigest()}"


def optimizer_state(run: Run) -> Dict[str, StateDict]:
    """Collect the optimizer's accumulators: {parameter's key: {name: array}}.

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
    """Turn a state dict's tensors into arrays."""
    return {key: np.asarray(tensor.numpy()) for key, tensor in state.items()}
