"""Going on with a run: its state file is read, checked as any input, and put into a new run."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, Iterator

import numpy as np
import paddle

from SCFNet.checkpoint import assign_weights, load_plain
from SCFNet.errors import CheckpointError
from SCFNet.formats.unpickle import printable
from SCFNet.training.recipe import Recipe
from SCFNet.training.state import STATE, Run, state_digest

KEPT = {  # what `save` writes and `restore` needs
    "weights": dict,
    "average": dict,
    "optimizer": dict,
    "scaler": dict,
    "step": int,
    "steps_per_epoch": int,
    "data": str,
    "best": float,
    "sums": np.ndarray,
    "log": list,
    "minutes": float,
    "recipe": dict,
    "sha256": str,
}
SLOTS = {  # what an optimizer keeps of each weight: whether it has the weight's shape, else [1]
    "momentum": {"_velocity_0": True},
    "adamw": {
        "_moment1_0": True,
        "_moment2_0": True,
        "_beta1_pow_acc_0": False,
        "_beta2_pow_acc_0": False,
    },
}


def restore(run: Run, path: Path, recipe: Recipe, steps_per_epoch: int, data: str = "") -> None:
    """Make `run` what `save` has written to `path`, and say what of the recipe has changed since.

    Args:
        run: a new run of `recipe`.
        path: the state file.
        recipe: what this run was told.
        steps_per_epoch: of this data and batch size.
        data: the digest of this run's samples, see `samples_digest`.

    Raises CheckpointError for any other file, a damaged one, or one whose network, optimizer or
    data was another.
    """
    state = load_state(path)
    was = state["recipe"]
    for fault in differences(state, run, recipe, steps_per_epoch, data):
        raise CheckpointError(f"{path}: {fault}")
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
    run.began -= 60 * state["minutes"]
    if not paddle.distributed.get_rank():
        now = asdict(recipe)
        changed = [f"{k}: {printable(was.get(k))} -> {now[k]}" for k in now if now[k] != was.get(k)]
        print(f"going on from {path}, step {run.step}", *changed, sep="\n  ")


def load_state(path: Path) -> Dict[str, Any]:
    """Read a state file. Raises CheckpointError if it is none, or not as `save` wrote it."""
    state = load_plain(path)
    if not isinstance(state, dict) or not state.keys() >= KEPT.keys():
        raise CheckpointError(f"{path}: not a training state, as {STATE} is one")
    try:
        json.dumps([state["recipe"], state["log"]])
        digest = state_digest(state)
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged: it holds what no run has written") from error
    if digest != state["sha256"]:
        raise CheckpointError(f"{path}: damaged: it is not as the run has written it")
    if not _is_well_formed(state):
        raise CheckpointError(f"{path}: damaged: it holds what no run has written")
    return state


def _is_well_formed(state: Dict[str, Any]) -> bool:
    """Tell whether all of `KEPT` is of its kind, down to the arrays, and numbers are finite."""
    return (
        all(isinstance(state[key], kind) for key, kind in KEPT.items())
        and all(isinstance(record, dict) for record in state["log"])
        and math.isfinite(state["minutes"])
        and state["best"] < math.inf
        and all(
            isinstance(kept, dict) and all(map(_is_finite, kept.values()))
            for kept in (state["weights"], state["average"], *state["optimizer"].values())
        )
        and _is_finite(state["sums"])
    )


def _is_finite(array: Any) -> bool:
    """Tell whether `array` is an array of finite numbers."""
    return (
        isinstance(array, np.ndarray)
        and array.dtype.kind in "biuf"
        and bool(np.isfinite(array).all())
    )


def differences(
    state: Dict[str, Any], run: Run, recipe: Recipe, steps_per_epoch: int, data: str
) -> Iterator[str]:
    """Describe, in phrases, what keeps a run of `recipe` from going on with a whole state."""
    was = state["recipe"]
    for name in ("model", "decoder", "optimizer"):
        if was.get(name) != getattr(recipe, name):
            yield f"is of {name} {printable(was.get(name))}, not {getattr(recipe, name)}"
    if state["steps_per_epoch"] != steps_per_epoch:
        yield (
            f"an epoch had {state['steps_per_epoch']} steps, now it has {steps_per_epoch}: "
            "go on with the same data and batch size"
        )
    if state["data"] != data:
        before, now = (printable(digest.partition(" ")[0]) for digest in (state["data"], data))
        yield f"its {before} photos are not these {now}: go on with the same data"
    if bool(state["average"]) != bool(run.average):
        yield f"ema was {printable(was.get('ema'))}, now it is {recipe.ema}"
    epochs = len(state["log"])
    if not epochs * steps_per_epoch <= state["step"] <= (epochs + 1) * steps_per_epoch:
        yield f"damaged: step {state['step']} is not within epoch {epochs + 1}"
    yield from _misfits(state["optimizer"], run, recipe.optimizer)
    if state["step"] and not any(state["optimizer"].values()):
        yield "damaged: the optimizer's state is empty"


def _misfits(kept: Dict[str, Dict[str, np.ndarray]], run: Run, optimizer: str) -> Iterator[str]:
    """Describe what of the optimizer's state does not fit the network. A weight may have none: it
    had no gradient yet.
    """
    parameters = dict(run.net.named_parameters())
    if kept.keys() != parameters.keys():
        yield "damaged: the optimizer's state is of other weights"
        return
    for key, slots in kept.items():
        shape = parameters[key].shape
        shapes = {name: shape if full else [1] for name, full in SLOTS[optimizer].items()}
        if slots and {name: list(array.shape) for name, array in slots.items()} != shapes:
            yield f"damaged: the optimizer's state does not fit {key}"
