"""A training run's state: network, optimizer, averaged weights; starting it and saving it."""

import hashlib
import json
import math
import subprocess
import time
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
import paddle
from paddle import Tensor

from datasets.sod import Sample
from SCFNet.checkpoint import StateDict, dump_plain, save_weights
from SCFNet.errors import NotFiniteError
from SCFNet.files import write_atomically
from SCFNet.net import BACKBONE_LR_SCALE, SaliencyNet
from SCFNet.training.pretrained import load_pretrained
from SCFNet.training.recipe import Recipe
from SCFNet.zoo import build_network

LAST, BEST, STATE, LOG = "last.pdparams", "best.pdparams", "last.state", "log.jsonl"
GRADIENT_NORM = 5.0  # AdamW's clip


@dataclass
class Run:
    """All that changes while training. An epoch is over when it has its record in `log`."""

    net: SaliencyNet
    average: Optional[SaliencyNet]  # of the weights, if the recipe has an `ema`
    optimizer: paddle.optimizer.Optimizer
    scaler: paddle.amp.GradScaler
    step: int = 0  # done so far
    best: float = -math.inf
    sums: np.ndarray = field(default_factory=lambda: np.zeros(1))  # of this epoch: losses, images
    log: List[Dict[str, Any]] = field(default_factory=list)
    began: float = field(default_factory=time.time)  # or would have, without the pauses

    @property
    def minutes(self) -> float:
        """Since training began, without the pauses."""
        return (time.time() - self.began) / 60

    @property
    def result(self) -> SaliencyNet:
        """The network that is scored and written."""
        return self.average or self.net


def new_run(recipe: Recipe) -> Run:
    """Begin a run: build the network, with its starting weights by the seed, and its optimizer."""
    paddle.seed(recipe.seed)
    net = build_network(recipe.model, recipe.decoder)
    load_pretrained(net, recipe.pretrained)
    average = None
    if recipe.ema:
        average = build_network(recipe.model, recipe.decoder)
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


def save(run: Run, recipe: Recipe, steps_per_epoch: int, data: str = "") -> None:
    """Write the state, which alone is enough to go on from, then the readable copy of the weights.

    The first process writes, each file atomically.

    Args:
        run: what is saved.
        recipe: what the run was told; it says to which folder.
        steps_per_epoch: of this data and batch size.
        data: the digest of the samples, see `samples_digest`.

    Raises InputError if a file cannot be written, and NotFiniteError if weights are infinite or
    not numbers: the files are left as they were.
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
        "data": data,
        "best": run.best,
        "sums": run.sums,
        "log": run.log,
        "minutes": run.minutes,
        "recipe": asdict(recipe),
        "commit": git_commit(),
        "versions": {"paddle": paddle.__version__, "numpy": np.__version__},
    }
    state["sha256"] = state_digest(state)
    output = Path(recipe.output)
    write_atomically(output / STATE, dump_plain(state))
    save_weights(run.result, output / LAST)
    write_atomically(output / LOG, "".join(json.dumps(r) + "\n" for r in run.log).encode())


def state_digest(state: Dict[str, Any]) -> str:
    """Compute the SHA-256, in hex, of all that a state holds but its own digest.

    Raises TypeError or ValueError for what no state holds.
    """

    def describe(array: Any) -> str:
        array = np.ascontiguousarray(array)
        return f"{array.dtype.str} {array.shape} {hashlib.sha256(array).hexdigest()}"

    content = {key: value for key, value in state.items() if key != "sha256"}
    return hashlib.sha256(
        json.dumps(content, default=describe, sort_keys=True).encode()
    ).hexdigest()


def samples_digest(samples: Sequence[Sample]) -> str:
    """Tell one list of samples from another: by names, order, and the sizes of photos and masks."""
    total = hashlib.sha256()
    for sample in samples:
        mask = None if sample.is_map else sample.mask  # a teacher's map may be made again
        sizes = [path.stat().st_size for path in (sample.image, mask) if path]
        total.update(f"{sample.stem} {sizes}\n".encode("utf-8", "surrogateescape"))
    return f"{len(samples)} {total.hexdigest()}"


def optimizer_state(run: Run) -> Dict[str, StateDict]:
    """Collect what the optimizer keeps: {parameter's key: {name: array}}.

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


@lru_cache(maxsize=None)
def git_commit() -> str:
    """Name the commit of this repository, '-dirty' if files were changed; '' outside of git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip()
