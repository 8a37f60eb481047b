"""The training loop's parts: rate, schedules, one step against the reference, saving, scoring."""

import errno
import json
import os
from pathlib import Path

import cv2
import numpy as np
import paddle
import pytest

from datasets.files import InputError, write_atomically
from datasets.sod import Sample
from SCFNet import engine
from SCFNet.checkpoint import dump_plain, load_checkpoint, load_plain
from SCFNet.loss import soft_target
from SCFNet.training import distributed as processes
from SCFNet.training import log as training_log
from SCFNet.training import state as training_run
from SCFNet.training import validation
from SCFNet.training.log import Log
from SCFNet.training.pretrained import load_pretrained
from SCFNet.training.recipe import Recipe, parse, sizes_at
from tests.fill_weights import fill

# In the fifth step of kd a ReLU is on the edge: it tips by rounding, with a jitter of 1e-7 of the
# photos too, and moves the losses by 1e-4.
RTOL = {"fs": 1e-4, "kd": 3e-4}

DATA = Path(__file__).parent / "data"


@pytest.fixture(autouse=True)
def _cpu():
    processes.start_devices("cpu")


def recipe(**knobs):
    return Recipe(**{"pretrained": "none", "device": "cpu", "sizes": (64,), **knobs})


def reference_batch():
    """Images, masks and teacher logits of train_{fs,kd}_seed5.json."""
    rng = np.random.default_rng(5)
    images = rng.standard_normal((4, 3, 128, 128)).astype("float32")
    yy, xx = np.mgrid[0:128, 0:128]
    masks = np.stack(
        [(yy - 50 - 5 * i) ** 2 / 1600 + (xx - 60) ** 2 / (900 + 200 * i) < 1 for i in range(4)]
    )[:, None].astype("float32")
    teacher = (6 * (masks - 0.5) + rng.standard_normal(masks.shape)).astype("float32")
    return [paddle.to_tensor(array) for array in (images, masks, teacher)]


def test_rate_has_the_papers_end_points():
    assert engine.lr_at(0, 83, 69) == 6.4e-4
    assert engine.lr_at(5 * 83, 83, 69) == 6.4e-2
    assert engine.lr_at(69 * 83 - 1, 83, 69) == 6.4e-4
    rates = [engine.lr_at(step, 83, 69) for step in range(69 * 83)]
    assert max(rates) == 6.4e-2 and min(rates) == 6.4e-4


def test_rate_follows_the_release_after_the_warmup():
    release = json.loads((DATA / "lr_release.json").read_text())
    for i, expected in enumerate(release["lr_every_100_steps"]):
        if i * 100 > 5 * 83:
            assert engine.lr_at(i * 100, 83, 69) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("epochs, warmup", [(1, 5), (3, 0), (5, 5), (6, 0.5)])
def test_rate_of_short_runs_stays_in_range(epochs, warmup):
    rates = [engine.lr_at(step, 2, epochs, 0.1, 0.001, warmup) for step in range(2 * epochs)]
    assert all(0.001 <= rate <= 0.1 for rate in rates) and rates[-1] == 0.001


def test_sizes_and_kernel_follow_the_epoch():
    knobs = recipe(epochs=10, sizes=[128], late_sizes=[320, 352], late_from=0.7, boundary="5")
    assert [sizes_at(epoch, knobs) for epoch in (6, 7)] == [(128,), (320, 352)]
    assert engine.kernel_at(0, knobs) == 5
    assert [engine.kernel_at(epoch, recipe()) for epoch in (0, 10, 68)] == [13, 11, 1]
    assert engine.kernel_at(9, recipe(boundary="release")) == 11


@pytest.mark.parametrize("mode", ["fs", "kd"])
def test_steps_equal_the_releases(mode):
    """Six steps of SGD from the rule's weights: losses, and sums of the weights after them."""
    reference = json.loads((DATA / f"train_{mode}_seed5.json").read_text())
    knobs = recipe(backbone_lr_scale=0.1, loss="sp" if mode == "fs" else "dice")
    run = training_run.new_run(knobs)
    fill(run.net)
    images, masks, teacher = reference_batch()
    target = masks if mode == "fs" else soft_target(teacher)
    losses = [engine.train_step(run, knobs, images, target, 0.01, 13) for _ in range(6)]
    np.testing.assert_allclose(losses, reference["losses"], rtol=RTOL[mode])
    state = run.net.state_dict()
    for key, (total, squares) in reference["sums_after"].items():
        value = state[key].numpy().astype("float64")
        np.testing.assert_allclose(value.sum(), total, atol=1e-3 * (1e-3 + squares) ** 0.5)
        np.testing.assert_allclose((value**2).sum(), squares, rtol=1e-3, atol=1e-6)


def test_backbone_rate_and_decay():
    assert _scale(recipe()) == 1.0
    assert _scale(recipe(backbone_lr_scale=0.3)) == 0.3
    run = training_run.new_run(recipe())
    free = {k for k, p in run.net.named_parameters() if p.regularizer is not None}
    norms = {
        key
        for key, p in run.net.bkbone.named_parameters(prefix="bkbone")
        if ".bn." in key and not p.stop_gradient
    }
    assert free == norms and norms


def _scale(knobs):
    net = training_run.new_run(knobs).net
    scales = {p.optimize_attr["learning_rate"] for p in net.bkbone.parameters()}
    assert all(p.optimize_attr["learning_rate"] == 1.0 for p in net.linear2.parameters())
    assert len(scales) == 1
    return scales.pop()


def test_average_follows_the_weights():
    knobs = recipe(ema=0.5)
    run = training_run.new_run(knobs)
    before = {k: v.numpy() for k, v in run.net.state_dict().items()}
    images, masks, _ = reference_batch()
    engine.train_step(run, knobs, images[:, :, :64, :64], masks[:, :, :64, :64], 0.1, 1)
    decay = 2 / 11  # of a first step
    for key in ("linear2.weight", "bkbone.conv.bn._mean"):
        now, mean = run.net.state_dict()[key].numpy(), run.average.state_dict()[key].numpy()
        assert not np.array_equal(now, before[key])
        np.testing.assert_allclose(mean, decay * before[key] + (1 - decay) * now, atol=1e-6)
    assert run.result is run.average


def test_mixed_precision_trains():
    images, masks, _ = reference_batch()
    losses = {}
    for amp in (False, True):
        knobs = recipe(amp=amp)
        run = training_run.new_run(knobs)
        small = images[:, :, :64, :64], masks[:, :, :64, :64]
        losses[amp] = [engine.train_step(run, knobs, *small, 0.01, 3)[0] for _ in range(3)]
    np.testing.assert_allclose(losses[True], losses[False], rtol=0.02)


def test_a_process_that_does_not_answer_is_one_line(monkeypatch):
    def all_reduce(tensor):
        raise RuntimeError("[gloo] TIMEOUT self_rank = none")

    assert processes.any_process(True) and not processes.any_process(False)
    monkeypatch.setattr(paddle.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(paddle.distributed, "all_reduce", all_reduce)
    with pytest.raises(InputError, match="does not answer; start all again with --resume auto"):
        processes.any_process(False)


def test_a_loss_that_is_not_finite_changes_no_weight():
    knobs = recipe()
    run = training_run.new_run(knobs)
    weight = run.net.linear2.weight.numpy()
    images, masks, _ = reference_batch()
    with pytest.raises(training_run.NotFiniteError, match="step 1"):
        engine.train_step(run, knobs, images, masks * float("nan"), 0.01, 1)
    assert run.step == 0
    np.testing.assert_array_equal(run.net.linear2.weight.numpy(), weight)


@pytest.mark.parametrize("optimizer", ["momentum", "adamw"])
def test_a_restored_run_goes_on_alike(tmp_path, optimizer):
    """Also where other layers were built before, which shifts Paddle's automatic names."""
    knobs = recipe(output=str(tmp_path), ema=0.9, optimizer=optimizer, lr=0.01)
    images, masks, _ = reference_batch()
    small = images[:, :, :64, :64], masks[:, :, :64, :64]
    run = training_run.new_run(knobs)
    for _ in range(2):
        engine.train_step(run, knobs, *small, 0.01, 3)
    training_run.save(run, knobs, 5)
    expected = engine.train_step(run, knobs, *small, 0.01, 3)
    paddle.nn.Conv2D(3, 3, 3)
    other = training_run.new_run(recipe(**{**vars(knobs), "seed": 7}))
    training_run.restore(other, tmp_path / training_run.STATE, knobs, 5)
    assert other.step == 2
    np.testing.assert_array_equal(engine.train_step(other, knobs, *small, 0.01, 3), expected)
    for key, value in run.net.state_dict().items():
        np.testing.assert_array_equal(other.net.state_dict()[key].numpy(), value.numpy())
        np.testing.assert_array_equal(
            other.average.state_dict()[key].numpy(), run.average.state_dict()[key].numpy()
        )
    kept = load_plain(tmp_path / training_run.STATE)
    assert kept["recipe"]["optimizer"] == optimizer
    assert set(kept["versions"]) == {"paddle", "numpy"} and "commit" in kept
    assert load_checkpoint(tmp_path / training_run.LAST).keys() == run.net.state_dict().keys()


def test_minutes_go_on_after_a_stop_within_an_epoch(tmp_path):
    knobs = recipe(output=str(tmp_path))
    run = training_run.new_run(knobs)
    run.began -= 120
    training_run.save(run, knobs, 5)
    again = training_run.new_run(knobs)
    training_run.restore(again, tmp_path / training_run.STATE, knobs, 5)
    assert 2 <= again.minutes < 3


def test_time_left_knows_that_late_sizes_take_longer(monkeypatch, capsys):
    knobs = recipe(epochs=2, sizes=[100], late_sizes=[200], late_from=0.5, log_every=1)
    run = training_run.new_run(knobs)
    clock = [0.0]
    monkeypatch.setattr(training_log.time, "time", lambda: clock[0])
    with Log(knobs, run, images=40, steps=10) as log:
        for step in range(1, 11):
            clock[0] += 1
            log.step(step, 0, np.ones(5), 0.1, 4)
        log.epoch(run, {}, [])
        clock[0] += 4
        log.step(11, 1, np.ones(5), 0.1, 4)
    lines = [line for line in capsys.readouterr().out.splitlines() if "left" in line]
    assert lines[4].endswith("4.0 images/s, 00:45 left")  # 5 steps of 1 s and 10 of 4 s
    assert lines[9].endswith("4.0 images/s, 00:40 left")
    assert lines[10].endswith("1.0 images/s, 00:36 left")


def test_a_full_disk_keeps_the_last_good_state(tmp_path, monkeypatch):
    knobs = recipe(output=str(tmp_path))
    run = training_run.new_run(knobs)
    training_run.save(run, knobs, 5)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    run.step = 3
    with pytest.raises(InputError, match="No space left"):
        training_run.save(run, knobs, 5)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model": "R50"}, "is of --model M3_0.5, not R50"),
        ({"decoder": "base"}, "is of --decoder scfm, not base"),
        ({"ema": 0.9}, "--ema was 0.0, now it is 0.9"),
    ],
)
def test_a_state_of_another_network_is_refused(tmp_path, change, message):
    knobs = recipe(output=str(tmp_path))
    run = training_run.new_run(knobs)
    training_run.save(run, knobs, 5)
    run.average = run.net if "ema" in change else None
    with pytest.raises(InputError, match=message):
        training_run.restore(run, tmp_path / training_run.STATE, recipe(**change), 5)
    with pytest.raises(InputError, match="5 steps, now it has 6"):
        training_run.restore(run, tmp_path / training_run.STATE, knobs, 6)
    with pytest.raises(InputError, match="not a training state"):
        training_run.restore(run, tmp_path / training_run.LAST, knobs, 5)


class Echo(paddle.nn.Layer):
    """A network whose map is the photo's first channel."""

    def forward(self, x):
        return [x[:, :1] * 4]


def test_scores_are_those_of_the_maps(tmp_path):
    samples = []
    for i in range(3):
        mask = np.zeros((40, 50), "uint8")
        mask[10:30, 5 + 5 * i : 30] = 255
        for kind, array in (("image", np.dstack([mask] * 3)), ("mask", mask)):
            cv2.imwrite(str(tmp_path / f"{kind}{i}.png"), array)
        paths = tmp_path / f"image{i}.png", tmp_path / f"mask{i}.png"
        samples.append(Sample(str(i), *paths))
    right = validation.evaluate(Echo(), samples, 40, batch_size=2)
    assert right["MAE"] < 0.02 and right["Max-F"] > 0.95
    wrong = validation.evaluate(lambda_net(lambda x: [-x[:, :1] * 4]), samples, 40)
    assert wrong["MAE"] > 0.9 and wrong["Max-F"] < 0.5


def lambda_net(function):
    net = Echo()
    net.forward = function
    return net


def test_release_flags_are_aliases():
    ours = "--backbone R50 --data a --output b --log-dir c --epochs 3 --batch-size 4 --lr 0.1"
    ours += " --min-lr 0.2 --warmup-epochs 1 --weight-decay 0.3 --momentum 0.4 --log-every 7"
    theirs = "--model_type R50 --datapath a --savepath b --log_dir c --epoch 3 --train_bs 4"
    theirs += " --Max_LR 0.1 --Min_LR 0.2 --top_epoch 1 --decay 0.3 --momen 0.4 --show_step 7"
    ours, theirs = ours + " --pretrained d", theirs + " --snapshot d"
    assert parse(Recipe, "", ours.split()) == parse(Recipe, "", theirs.split()) != Recipe()


def test_defaults_are_the_papers():
    knobs = parse(Recipe, "", [])
    assert (knobs.epochs, knobs.batch_size, knobs.lr, knobs.min_lr) == (69, 128, 0.064, 0.00064)
    assert (knobs.momentum, knobs.weight_decay, knobs.warmup_epochs) == (0.9, 5e-4, 5)
    assert (knobs.sizes, knobs.loss, knobs.boundary) == ((224, 256, 288, 320, 352), "sp", "paper")


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--backbone X", "invalid choice: 'X'"),
        ("--epochs 0", "--epochs 0: must be more than 0"),
        ("--epochs many", "invalid int value"),
        ("--boundary 4", "--boundary 4: give paper, release or an odd number"),
        ("--sizes 8", "--sizes .*: must be 32 or more"),
        ("--val-fraction 1", "--val-fraction 1.0: must be less than 1"),
        ("--copy-paste 30", "--copy-paste 30.0: must be at most 1"),
        ("--epoc 3", "unrecognized arguments: --epoc 3"),
    ],
)
def test_impossible_flags_are_refused(flags, message):
    with pytest.raises(InputError, match=message) as error:
        parse(Recipe, "", flags.split())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("device", ["tpu", "cpu:1", "gpu:x", "gpu", "gpu:7"])
def test_devices_that_are_not_there_are_refused(device):
    if device.startswith("gpu") and paddle.device.cuda.device_count():
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match=f"--device {device}"):
        processes.start_devices(device)


def test_imagenet_offline_says_which_file_goes_where(monkeypatch):
    def offline(_):
        raise RuntimeError("no network")

    monkeypatch.setattr(paddle.utils.download, "get_weights_path_from_url", offline)
    net = training_run.new_run(recipe()).net
    with pytest.raises(InputError) as error:
        load_pretrained(net, "imagenet")
    assert "MobileNetV3_large_x0_5_pretrained.pdparams" in str(error.value)
    assert paddle.utils.download.WEIGHTS_HOME in str(error.value) and "--pretrained FILE" in str(
        error.value
    )


def test_pretrained_files_of_backbone_and_network(tmp_path):
    source = training_run.new_run(recipe(seed=1)).net
    whole = {k: v.numpy() for k, v in source.state_dict().items()}
    backbone = {k[len("bkbone.") :]: v for k, v in whole.items() if k.startswith("bkbone.")}
    backbone["fc.weight"] = np.zeros((3, 3), "float32")  # a classifier's, to be left out
    for name, state in (("whole", whole), ("backbone", backbone)):
        write_atomically(tmp_path / name, dump_plain(state))
    net = training_run.new_run(recipe(pretrained=str(tmp_path / "backbone"))).net
    found = {k: v.numpy() for k, v in net.state_dict().items()}
    same = {k for k in whole if np.array_equal(found[k], whole[k])}
    assert {k for k in whole if k.startswith("bkbone.")} <= same and "linear2.weight" not in same
    net = training_run.new_run(recipe(pretrained=str(tmp_path / "whole"))).net
    assert all(np.array_equal(v.numpy(), whole[k]) for k, v in net.state_dict().items())
    with pytest.raises(InputError, match=r"is of M3_0\.5, not of R34"):
        training_run.new_run(recipe(model="R34", pretrained=str(tmp_path / "whole")))
