"""States: what is saved goes on alike, is checked as any input, and is of this network and data."""

import errno
import os
import random
from dataclasses import replace

import numpy as np
import paddle
import pytest

from datasets.sod import list_pairs
from SCFNet import engine
from SCFNet.checkpoint import dump_plain, load_checkpoint, load_plain
from SCFNet.errors import InputError, NotFiniteError
from SCFNet.files import write_atomically
from SCFNet.net import SCFNet
from SCFNet.training import state
from SCFNet.training.output import OutputFolder
from SCFNet.training.resume import restore
from tests.conftest import distill_recipe, recipe, reference_batch, write_pairs
from tests.steps import skim

WEIGHT = "linear2.weight"


def step(run):
    """A step of a small batch; its losses."""
    images, masks, _ = reference_batch()
    return engine.train_step(run, images[:, :, :64, :64], masks[:, :, :64, :64], 0.01, 3).numpy()


def save(run):
    with OutputFolder(run.recipe) as output:
        output.save(run)
    return output.path / state.STATE


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run of two steps, and its state file."""
    run = state.new_run(recipe(output=tmp_path_factory.mktemp("run"), ema=0.9))
    run.steps_per_epoch, run.digest = 5, "3 photos"
    step(run), step(run)
    return run, save(run)


def rates(net):
    """The learning rates of the backbone's parameters, and of the head's, as parts of the run's."""
    layers = net.bkbone, net.linear2
    return [{p.optimize_attr["learning_rate"] for p in layer.parameters()} for layer in layers]


def test_the_backbone_has_a_rate_of_its_own_and_its_norms_no_decay():
    assert rates(SCFNet(1, "M3_0.5")) == [{0.1}, {1}]  # a notebook's own loop relies on it
    assert rates(state.new_run(recipe(backbone_lr_scale=0.3)).net) == [{0.3}, {1}]
    net = state.new_run(recipe()).net
    assert rates(net) == [{1}, {1}]
    for name, p in net.named_parameters():
        exempt = name.startswith("bkbone.") and name.endswith((".bn.weight", ".bn.bias"))
        assert (p.regularizer is not None) == exempt, name


@pytest.mark.parametrize("optimizer", ["momentum", "adamw"])
def test_a_restored_run_goes_on_alike(tmp_path, optimizer):
    """Also where other layers were built before, which shifts Paddle's automatic names."""
    knobs = recipe(output=tmp_path, ema=0.9, optimizer=optimizer, lr=0.01)
    run = state.new_run(knobs)
    step(run), step(run)
    run.began -= 120
    path = save(run)
    expected = step(run)
    paddle.nn.Conv2D(3, 3, 3)
    other = state.new_run(replace(knobs, seed=7))
    restore(other, path)
    assert other.step == 2 and 2 <= other.minutes < 4
    np.testing.assert_array_equal(step(other), expected)
    for ours, theirs in ((run.net, other.net), (run.average, other.average)):
        found = theirs.state_dict()
        for key, value in ours.state_dict().items():
            np.testing.assert_array_equal(found[key].numpy(), value.numpy())
    kept = load_plain(path)
    assert kept["recipe"]["optimizer"] == optimizer
    assert set(kept["versions"]) == {"paddle", "numpy"}
    assert load_checkpoint(tmp_path / state.LAST).keys() == run.net.state_dict().keys()


def test_a_teacher_that_an_older_state_has_as_a_text_has_not_changed(tmp_path, capsys):
    run = state.new_run(distill_recipe(output=tmp_path, teacher="small"))
    content = load_plain(save(run))
    content["recipe"].update(teacher="small", seed=5)
    content["sha256"] = state.state_digest(content)
    write_atomically(tmp_path / state.STATE, dump_plain(content))
    restore(run, tmp_path / state.STATE)
    assert capsys.readouterr().out.splitlines()[1:] == ["  seed: 5 -> 0"]


def test_a_full_disk_or_weights_that_are_no_numbers_keep_the_last_good_state(tmp_path, monkeypatch):
    run = state.new_run(recipe(output=tmp_path))
    save(run)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.*")}

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run.step = 3
    with monkeypatch.context() as patched, pytest.raises(InputError, match="No space left"):
        patched.setattr(os, "fsync", full)
        save(run)
    run.net.linear2.bias.set_value(np.float32([np.nan]))
    with pytest.raises(NotFiniteError, match=r"step 3 1 weights are not finite: linear2\.bias"):
        save(run)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.*")} == before


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model": "R50"}, "is of model M3_0.5, not R50"),
        ({"decoder": "base"}, "is of decoder scfm, not base"),
        ({"optimizer": "adamw"}, "is of optimizer momentum, not adamw"),
        ({"ema": 0.0}, "ema was 0.9, now it is 0.0"),
    ],
)
def test_a_state_of_another_run_is_refused(saved, change, message):
    run, path = saved
    average = run.average if change.get("ema", 1) else None
    other = replace(run, recipe=replace(run.recipe, **change), average=average)
    with pytest.raises(InputError, match=message):
        restore(other, path)
    with pytest.raises(InputError, match="not a training state"):
        restore(other, path.with_name(state.LAST))


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(step=3),
        lambda content: content["weights"].update({WEIGHT: np.zeros((1, 16, 3, 3), "float32")}),
        lambda content: content["optimizer"].update({WEIGHT: {}}),
        lambda content: content["scaler"].update({1: 2}),  # what no digest is of
        lambda content: content.pop("best"),
    ],
)
def test_a_state_that_is_not_as_written_is_refused_and_changes_nothing(saved, tmp_path, change):
    run, path = saved
    content = load_plain(path)
    change(content)
    write_atomically(tmp_path / state.STATE, dump_plain(content))
    before = run.net.linear2.weight.numpy()
    with pytest.raises(InputError, match=r"last\.state: damaged: it is not as [^\n]+$"):
        restore(run, tmp_path / state.STATE)
    assert run.step == 2 and np.array_equal(run.net.linear2.weight.numpy(), before)


def test_mutated_states_are_refused_or_unchanged(saved, tmp_path):
    """Bytes are overwritten, cut out or doubled, in the pickle's commands above all."""
    run, path = saved
    data = path.read_bytes()
    small = dump_plain({**load_plain(path), "weights": {}, "average": {}, "optimizer": {}})
    rng = random.Random(0)
    refused = 0
    for _ in range(30):
        source = bytearray(rng.choice([data, small]))
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(source))
            source[at : at + rng.randint(0, 3)] = rng.choices(range(256), k=rng.randint(0, 3))
        (tmp_path / "m.state").write_bytes(source)
        try:
            restore(run, tmp_path / "m.state")
        except InputError as error:
            assert "\n" not in str(error)
            refused += 1
        assert run.step == 2
    assert refused > 20


def test_a_run_does_not_go_on_with_other_photos(tmp_path, capsys, monkeypatch):
    skim(monkeypatch)
    write_pairs(tmp_path / "a", 6)
    knobs = {"data": tmp_path / "a", "output": tmp_path / "out", "epochs": 1}
    assert engine.train(recipe(**knobs)) == 0
    knobs.update(epochs=2, resume="auto", data=(tmp_path / "a").rename(tmp_path / "moved"))
    assert engine.train(recipe(**knobs)) == 0
    assert "epochs: 1 -> 2" in capsys.readouterr().out
    for kind, suffix in (("image", "jpg"), ("mask", "png")):
        (knobs["data"] / kind / f"0.{suffix}").rename(knobs["data"] / kind / f"x.{suffix}")
    with pytest.raises(InputError, match="its 6 photos are not these 6: go on with the same data"):
        engine.train(recipe(**knobs))


def test_the_digest_knows_names_order_and_sizes(tmp_path):
    samples = list_pairs(write_pairs(tmp_path, 3))
    digest = state.samples_digest(samples)
    assert digest.startswith("3 ")
    assert state.samples_digest(samples[::-1]) != digest
    assert state.samples_digest([sample._replace(mask=None) for sample in samples]) != digest
    samples[0].image.write_bytes(samples[0].image.read_bytes() + b" ")
    assert state.samples_digest(samples) != digest
