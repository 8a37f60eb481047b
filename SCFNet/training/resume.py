"""Going on with a run: its state file is read, checked as any input, and put into a new run."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict

import numpy as np
import paddle

from SCFNet.checkpoint import assign_weights, load_plain
from SCFNet.errors import CheckpointError
from SCFNet.training.distributed import say
from SCFNet.training.recipe import as_tuple
from SCFNet.training.state import STATE, Run, state_digest


def restore(run: Run, path: Path) -> None:
    """Load the state in `path` into a new `run`, and print which knobs of its recipe have changed.

    Raises CheckpointError for any other file, a damaged one, or one whose network, optimizer or
    data was another.
    """
    state = load_state(path)
    check_same_run(state, run, path)
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
    if state["steps_per_epoch"] != run.steps_per_epoch:  # another batch size, or more devices
        run.step = run.epoch * run.steps_per_epoch
        run.sums = np.zeros_like(run.sums)
        say(
            f"an epoch has {run.steps_per_epoch} steps, not {state['steps_per_epoch']} as before: "
            f"epoch {run.epoch + 1} begins at its start"
        )
    if not paddle.distributed.get_rank():
        was, now = state["recipe"], asdict(run.recipe)
        changed = [
            f"{k}: {was.get(k)} -> {now[k]}"
            for k in now
            if as_tuple(now[k]) != as_tuple(was.get(k))  # one teacher was a str once
        ]
        print(f"going on from {path}, step {run.step}", *changed, sep="\n  ")


def load_state(path: Path) -> Dict[str, Any]:
    """Read a state file. Raises CheckpointError if it is none, or its digest is another."""
    state = load_plain(path)
    if not isinstance(state, dict) or "sha256" not in state:
        raise CheckpointError(f"{path}: not a training state, as {STATE} is one")
    try:
        whole = state_digest(state) == state["sha256"]
    except (TypeError, ValueError):  # it holds what no state holds
        whole = False
    if not whole:
        raise CheckpointError(f"{path}: damaged: it is not as the run has written it")
    return state


def check_same_run(state: Dict[str, Any], run: Run, path: Path) -> None:
    """Raise CheckpointError if `run` has another network, optimizer or data than the state."""
    was, recipe = state["recipe"], run.recipe
    for name in ("model", "decoder", "optimizer"):
        if was[name] != getattr(recipe, name):
            raise CheckpointError(f"{path}: is of {name} {was[name]}, not {getattr(recipe, name)}")
    if state["data"] != run.digest:
        before, now = (digest.partition(" ")[0] for digest in (state["data"], run.digest))
        raise CheckpointError(
            f"{path}: its {before} photos are not these {now}: go on with the same data"
        )
    if bool(state["average"]) != bool(run.average):
        raise CheckpointError(f"{path}: ema was {was['ema']}, now it is {recipe.ema}")
