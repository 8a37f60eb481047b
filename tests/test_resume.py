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
from SCFNet.training.resume import restore
from tests.conftest import recipe, reference_batch, write_pairs

STEPS = 5


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run of two steps, what it was told, and its state file."""
    folder = tmp_path_factory.mktemp("run")
    knobs = recipe(output=folder, ema=0.9)
    run = state.new_run(knobs)
    images, masks, _ = reference_batch()
    for _ in range(2):
        engine.train_step(run, knobs, images[:, :, :64, :64], masks[:, :, :64, :64], 0.01, 3)
    state.save(run, knobs, STEPS, "3 photos")
    return run, knobs, folder / state.STATE


def set_item(*keys_and_value):
    """A change of a nested dict: its last key gets the value."""
    *keys, last, value = keys_and_value

    def change(content):
        for key in keys:
            content = content[key]
        content[last] = value

    return change


def rename(content):
    content["weights"]["other"] = content["weights"].pop("linear2.weight")


def empty_slots(content):
    content["optimizer"] = {key: {} for key in content["optimizer"]}


WEIGHT = "linear2.weight"
TAMPERED = [
    set_item("step", 10**9),
    set_item("step", -1),
    set_item("step", "2"),
    set_item("step", None),
    set_item("steps_per_epoch", 0),
    set_item("data", ["3 photos"]),
    set_item("optimizer", {}),
    set_item("optimizer", 7),
    set_item("optimizer", WEIGHT, {}),
    set_item("optimizer", WEIGHT, "_velocity_0", np.zeros(3, "float32")),
    set_item("optimizer", WEIGHT, {"_other_0": np.zeros(3, "float32")}),
    set_item("weights", {}),
    set_item("weights", [1, 2]),
    set_item("weights", WEIGHT, np.zeros((1, 16, 3, 3), "float32")),
    set_item("weights", WEIGHT, np.array(["x"])),
    set_item("average", {}),
    set_item("sums", np.zeros(3)),
    set_item("sums", "many"),
    set_item("log", [{"epoch": 1}]),
    set_item("log", {}),
    set_item("best", float("nan")),
    set_item("minutes", "long"),
    set_item("recipe", {}),
    set_item("recipe", None),
    set_item("scaler", {"scale": "x"}),
    set_item("sha256", 0),
    set_item("recipe", "ema", {1: 2}),
    rename,
    empty_slots,
]


@pytest.mark.parametrize("change", TAMPERED)
def test_a_tampered_state_is_refused_and_changes_nothing(saved, tmp_path, change):
    run, knobs, path = saved
    content = load_plain(path)
    change(content)
    spoilt = tmp_path / state.STATE
    write_atomically(spoilt, dump_plain(content))
    before = run.net.linear2.weight.numpy()
    with pytest.raises(InputError, match=r"last\.state: .*(damaged|not a training state)") as error:
        restore(run, spoilt, knobs, STEPS, "3 photos")
    assert "\n" not in str(error.value)
    assert run.step == 2 and np.array_equal(run.net.linear2.weight.numpy(), before)


@pytest.mark.parametrize("key", ["weights", "step", "log", "recipe", "sha256", "data"])
def test_a_state_that_lacks_something_is_refused(saved, tmp_path, key):
    run, knobs, path = saved
    content = load_plain(path)
    del content[key]
    write_atomically(tmp_path / "cut.state", dump_plain(content))
    with pytest.raises(InputError, match="not a training state"):
        restore(run, tmp_path / "cut.state", knobs, STEPS, "3 photos")


@pytest.mark.parametrize(
    "change, message",
    [
        (set_item("step", 10**9), "step 1000000000 is not within epoch 1"),
        (set_item("optimizer", {}), "of other weights"),
        (set_item("optimizer", WEIGHT, {"_velocity_0": np.zeros(2)}), f"does not fit {WEIGHT}"),
        (empty_slots, "the optimizer's state is empty"),
        (set_item("recipe", {}), "is of model None, not M3_0.5"),
        (set_item("weights", WEIGHT, [1, 2]), "no run has written"),
        (set_item("average", WEIGHT, np.full((1, 16, 3, 3), np.nan, "float32")), "no run has"),
        (set_item("optimizer", WEIGHT, 7), "no run has written"),
        (set_item("optimizer", WEIGHT, {"_velocity_0": None}), "no run has written"),
        (set_item("recipe", "data", np.zeros(3)), "no run has written"),
        (set_item("log", [np.zeros(3)]), "no run has written"),
        (set_item("sums", "many"), "no run has written"),
        (set_item("best", float("nan")), "no run has written"),
        (set_item("minutes", "long"), "no run has written"),
    ],
)
def test_a_state_with_a_right_digest_is_checked_too(saved, tmp_path, change, message):
    run, knobs, path = saved
    content = load_plain(path)
    change(content)
    content["sha256"] = state.state_digest(content)
    write_atomically(tmp_path / "other.state", dump_plain(content))
    with pytest.raises(InputError, match=message):
        restore(run, tmp_path / "other.state", knobs, STEPS, "3 photos")


def test_mutated_states_are_refused_or_unchanged(saved, tmp_path):
    """Bytes are overwritten, cut out or doubled, in the pickle's commands above all."""
    run, knobs, path = saved
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
            restore(run, tmp_path / "m.state", knobs, STEPS, "3 photos")
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
