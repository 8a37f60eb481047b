"""Going on with a run: its state file is read, checked as any input, and put into a new run."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, Iterator

import numpy as np
import paddle

from SCFNet.checkpoint import assign_weights, load_plain
from SCFNet.errors import CheckpointError
from SCFNet.formats.unpickle import printable
from SCFNet.training.distributed import say
from SCFNet.training.state import STATE, Run, state_digest

KEPT = {  # what `state_of` collects and `restore` needs
    *("weights", "average", "optimizer", "scaler", "recipe", "step", "steps_per_epoch", "data"),
    *("best", "sums", "log", "minutes", "sha256"),
}


def restore(run: Run, path: Path) -> None:
    """Make `run`, a new one, what was saved to `path`, and print what of its recipe has changed.

    Raises CheckpointError for any other file, a damaged one, or one whose network, optimizer or
    data was another.
    """
    state = load_state(path)
    was = state["recipe"]
    for fault in differences(state, run):
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
    if state["steps_per_epoch"] != run.steps_per_epoch:  # another batch size, or more devices
        run.step = run.epoch * run.steps_per_epoch
        run.sums = np.zeros_like(run.sums)
        say(
            f"an epoch has {run.steps_per_epoch} steps, not {state['steps_per_epoch']} as before: "
            f"epoch {run.epoch + 1} begins at its start"
        )
    if not paddle.distributed.get_rank():
        now = asdict(run.recipe)
        changed = [f"{k}: {printable(was.get(k))} -> {now[k]}" for k in now if now[k] != was.get(k)]
        print(f"going on from {path}, step {run.step}", *changed, sep="\n  ")


def load_state(path: Path) -> Dict[str, Any]:
    """Read a state file. Raises CheckpointError if it is none, or not as a run has written it."""
    state = load_plain(path)
    if not isinstance(state, dict) or not state.keys() >= KEPT:
        raise CheckpointError(f"{path}: not a training state, as {STATE} is one")
    try:
        whole = state_digest(state) == state["sha256"]
    except (TypeError, ValueError):  # it holds what no state holds
        whole = False
    if not whole:
        raise CheckpointError(f"{path}: damaged: it is not as the run has written it")
    return state


def differences(state: Dict[str, Any], run: Run) -> Iterator[str]:
    """Describe, in phrases, what keeps a run from going on with a whole state."""
    was, recipe = state["recipe"], run.recipe
    for name in ("model", "decoder", "optimizer"):
        if was.get(name) != getattr(recipe, name):
            yield f"is of {name} {printable(was.get(name))}, not {getattr(recipe, name)}"
    if state["data"] != run.digest:
        before, now = (
            printable(digest.partition(" ")[0]) for digest in (state["data"], run.digest)
        )
        yield f"its {before} photos are not these {now}: go on with the same data"
    if bool(state["average"]) != bool(run.average):
        yield f"ema was {printable(was.get('ema'))}, now it is {recipe.ema}"
