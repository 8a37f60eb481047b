"""Going on with a run: a state is checked as any input, and is of this network, data and plan."""

import random

import numpy as np
import pytest

from datasets.sod import list_pairs
from SCFNet import engine
from SCFNet.checkpoint import dump_plain, load_plain
from SCFNet.errors import InputError
from SCFNet.files import write_atomically
from SCFNet.training import state
from SCFNet.training.output import OutputFolder
from SCFNet.training.resume import restore
from tests.conftest import recipe, reference_batch, write_pairs


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run of two steps, and its state file."""
    knobs = recipe(output=tmp_path_factory.mktemp("run"), ema=0.9)
    run = state.new_run(knobs)
    run.steps_per_epoch, run.digest = 5, "3 photos"
    images, masks, _ = reference_batch()
    for _ in range(2):
        engine.train_step(run, images[:, :, :64, :64], masks[:, :, :64, :64], 0.01, 3)
    with OutputFolder(knobs) as output:
        output.save(run)
    return run, output.path / state.STATE


def set_item(*keys_and_value):
    """A change of a nested dict: its last key gets the value."""
    *keys, last, value = keys_and_value

    def change(content):
        for key in keys:
            content = content[key]
        content[last] = value

    return change


WEIGHT = "linear2.weight"


@pytest.mark.parametrize(
    "change",
    [
        set_item("step", 3),
        set_item("log", [{"epoch": 1}]),
        set_item("recipe", "lr", 1.0),
        set_item("sums", np.zeros(3)),
        set_item("weights", WEIGHT, np.zeros((1, 16, 3, 3), "float32")),
        set_item("weights", WEIGHT, [1, 2]),
        set_item("optimizer", WEIGHT, {}),
        set_item("scaler", {1: 2}),
        set_item("sha256", 0),
    ],
)
def test_a_state_that_is_not_as_written_is_refused_and_changes_nothing(saved, tmp_path, change):
    run, path = saved
    content = load_plain(path)
    change(content)
    write_atomically(tmp_path / state.STATE, dump_plain(content))
    before = run.net.linear2.weight.numpy()
    with pytest.raises(InputError, match=r"last\.state: damaged: it is not as") as error:
        restore(run, tmp_path / state.STATE)
    assert "\n" not in str(error.value)
    assert run.step == 2 and np.array_equal(run.net.linear2.weight.numpy(), before)


@pytest.mark.parametrize("key", ["weights", "step", "sha256"])
def test_a_state_that_lacks_something_is_refused(saved, tmp_path, key):
    run, path = saved
    content = load_plain(path)
    del content[key]
    write_atomically(tmp_path / "cut.state", dump_plain(content))
    with pytest.raises(InputError, match="not a training state"):
        restore(run, tmp_path / "cut.state")


def test_mutated_states_are_refused_or_unchanged(saved, tmp_path):
    """Bytes are overwritten, cut out or doubled, in the pickle's commands above all."""
    run, path = saved
    data = path.read_bytes()
    content = load_plain(path)
    small = dump_plain({**content, "weights": {}, "average": {}, "optimizer": {}})
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


def test_a_run_does_not_go_on_with_other_photos(tmp_path, capsys):
    write_pairs(tmp_path / "a", 6)
    knobs = {"data": tmp_path / "a", "output": tmp_path / "out", "epochs": 1}
    assert engine.train(recipe(**knobs)) == 0
    write_pairs(tmp_path / "b", 6)
    for kind, suffix in (("image", "jpg"), ("mask", "png")):
        (tmp_path / "b" / kind / f"0.{suffix}").rename(tmp_path / "b" / kind / f"x.{suffix}")
    again = recipe(**{**knobs, "data": tmp_path / "b", "epochs": 2, "resume": "auto"})
    with pytest.raises(InputError, match="its 6 photos are not these 6: go on with the same data"):
        engine.train(again)
    moved = (tmp_path / "a").rename(tmp_path / "moved")
    again = recipe(**{**knobs, "data": moved, "epochs": 2, "resume": "auto"})
    assert engine.train(again) == 0
    assert "epochs: 1 -> 2" in capsys.readouterr().out


def test_the_digest_knows_names_order_and_sizes(tmp_path):
    samples = list_pairs(write_pairs(tmp_path, 3))
    digest = state.samples_digest(samples)
    assert digest.startswith("3 ")
    assert state.samples_digest(samples[::-1]) != digest
    assert state.samples_digest([sample._replace(mask=None) for sample in samples]) != digest
    samples[0].image.write_bytes(samples[0].image.read_bytes() + b" ")
    assert state.samples_digest(samples) != digest
