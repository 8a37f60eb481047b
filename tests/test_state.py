"""A run's state: saved, restored, refused if it is of another run; the optimizer's parts."""

import errno
import os
from dataclasses import replace

import numpy as np
import paddle
import pytest

from SCFNet import engine
from SCFNet.checkpoint import load_checkpoint, load_plain
from SCFNet.errors import InputError
from SCFNet.net import SCFNet
from SCFNet.training import state
from SCFNet.training.output import OutputFolder
from SCFNet.training.resume import restore
from tests.conftest import recipe, reference_batch


def test_the_backbone_has_a_rate_of_its_own_and_its_norms_no_decay():
    released = SCFNet(1, "M3_0.5")  # a notebook's own loop relies on it
    assert {p.optimize_attr["learning_rate"] for p in released.bkbone.parameters()} == {0.1}
    assert released.linear2.weight.optimize_attr["learning_rate"] == 1.0
    assert _scale(recipe()) == 1.0
    assert _scale(recipe(backbone_lr_scale=0.3)) == 0.3
    run = state.new_run(recipe())
    free = {k for k, p in run.net.named_parameters() if p.regularizer is not None}
    norms = {
        key
        for key, p in run.net.bkbone.named_parameters(prefix="bkbone")
        if ".bn." in key and not p.stop_gradient
    }
    assert free == norms and norms


def save(run):
    with OutputFolder(run.recipe) as output:
        output.save(run)


def _scale(knobs):
    net = state.new_run(knobs).net
    scales = {p.optimize_attr["learning_rate"] for p in net.bkbone.parameters()}
    assert all(p.optimize_attr["learning_rate"] == 1.0 for p in net.linear2.parameters())
    assert len(scales) == 1
    return scales.pop()


@pytest.mark.parametrize("optimizer", ["momentum", "adamw"])
def test_a_restored_run_goes_on_alike(tmp_path, optimizer):
    """Also where other layers were built before, which shifts Paddle's automatic names."""
    knobs = recipe(output=tmp_path, ema=0.9, optimizer=optimizer, lr=0.01)
    images, masks, _ = reference_batch()
    small = images[:, :, :64, :64], masks[:, :, :64, :64]
    run = state.new_run(knobs)
    for _ in range(2):
        engine.train_step(run, *small, 0.01, 3)
    save(run)
    expected = engine.train_step(run, *small, 0.01, 3)
    paddle.nn.Conv2D(3, 3, 3)
    other = state.new_run(replace(knobs, seed=7))
    restore(other, tmp_path / state.STATE)
    assert other.step == 2
    np.testing.assert_array_equal(engine.train_step(other, *small, 0.01, 3), expected)
    for ours, theirs in ((run.net, other.net), (run.average, other.average)):
        found = theirs.state_dict()
        for key, value in ours.state_dict().items():
            np.testing.assert_array_equal(found[key].numpy(), value.numpy())
    kept = load_plain(tmp_path / state.STATE)
    assert kept["recipe"]["optimizer"] == optimizer
    assert set(kept["versions"]) == {"paddle", "numpy"} and "commit" in kept
    assert load_checkpoint(tmp_path / state.LAST).keys() == run.net.state_dict().keys()


def test_minutes_go_on_after_a_stop_within_an_epoch(tmp_path):
    knobs = recipe(output=tmp_path)
    run = state.new_run(knobs)
    run.began -= 120
    save(run)
    again = state.new_run(knobs)
    restore(again, tmp_path / state.STATE)
    assert 2 <= again.minutes < 3


def test_a_full_disk_keeps_the_last_good_state(tmp_path, monkeypatch):
    knobs = recipe(output=tmp_path)
    run = state.new_run(knobs)
    save(run)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.*")}

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    run.step = 3
    with pytest.raises(InputError, match="No space left"):
        save(run)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.*")} == before


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model": "R50"}, "is of model M3_0.5, not R50"),
        ({"decoder": "base"}, "is of decoder scfm, not base"),
        ({"ema": 0.9}, "ema was 0.0, now it is 0.9"),
    ],
)
def test_a_state_of_another_network_is_refused(tmp_path, change, message):
    knobs = recipe(output=tmp_path)
    run = state.new_run(knobs)
    save(run)
    with pytest.raises(InputError, match="not a training state"):
        restore(run, tmp_path / state.LAST)
    other = state.new_run(recipe(**change))
    with pytest.raises(InputError, match=message):
        restore(other, tmp_path / state.STATE)
