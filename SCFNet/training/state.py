"""A training run's state: network, optimizer, averaged weights; starting, saving, going on."""

import json
import math
import subprocess
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import numpy as np
import paddle
from filelock import FileLock, Timeout
from paddle import Tensor

from datasets.files import InputError, write_atomically
from SCFNet.checkpoint import (
    CheckpointError,
    StateDict,
    assign_weights,
    dump_plain,
    load_plain,
    save_weights,
)
from SCFNet.net import SaliencyNet
from SCFNet.training.pretrained import load_pretrained
from SCFNet.training.recipe import Recipe
from SCFNet.zoo import build_network

LAST, BEST, STATE, LOG = "last.pdparams", "best.pdparams", "last.state", "log.jsonl"
LOCK = ".lock"
GRADIENT_NORM = 5.0  # AdamW's clip
KEPT = {  # what `restore` needs of a state file
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
}


class NotFiniteError(ArithmeticError):
    """The loss is infinite or not a number."""


@dataclass
class Run:
    """All that changes while training. An epoch is over when it has its record in `log`."""

    net: SaliencyNet
    average: Optional[SaliencyNet]  # --ema
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


@contextmanager
def claimed(recipe: Recipe) -> Iterator[None]:
    """`--output` for this run alone, until it ends in whatever way. Raises InputError where another
    run writes there, or the folder cannot be locked."""
    if paddle.distributed.get_rank() or recipe.dry_run:
        yield
        return
    try:
        lock = FileLock(Path(recipe.output, LOCK)).acquire(blocking=False)
    except Timeout as error:
        raise InputError(
            f"{recipe.output}: another run is writing here: stop it, or give another --output"
        ) from error
    except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
        raise InputError(f"{recipe.output}: {error}; give another --output") from error
    with lock:
        yield


def new_run(recipe: Recipe) -> Run:
    """A network with its starting weights, and its optimizer. The weights depend on the seed."""
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
    """Momentum SGD with L2 decay, or AdamW; the backbone's rate is scaled by `optimize_attr`."""
    scale = recipe.backbone_lr_scale
    if scale < 0:
        scale = 1.0 if recipe.pretrained == "none" else 0.1
    for name, parameter in net.named_parameters():
        if name.startswith("bkbone."):
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


@paddle.no_grad()
def update_average(average: SaliencyNet, net: SaliencyNet, decay: float) -> None:
    """Move `average` towards `net`: weights, and batch norm statistics alike."""
    for slow, fast in zip(average.state_dict().values(), net.state_dict().values()):
        if slow.dtype == paddle.float32:
            slow.lerp_(fast, 1 - decay)


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
        "minutes": run.minutes,
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
    was.setdefault("model", was.get("backbone"))  # states had this name at first
    for name in ("model", "decoder", "optimizer"):
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
    run.began -= 60 * state.get("minutes", 0.0)  # states had none at first
    if not paddle.distributed.get_rank():
        now = asdict(recipe)
        changed = [f"--{k} {was.get(k)} -> {now[k]}" for k in now if now[k] != was.get(k)]
        print(f"going on from {path}, step {run.step}", *changed, sep="\n  ")
