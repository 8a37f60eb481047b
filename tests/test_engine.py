"""The training loop: the learning rate, the kernel size, one step against the release's."""

import json
from pathlib import Path

import numpy as np
import paddle
import pytest

from datasets.loader import Batch
from datasets.sod import list_pairs
from SCFNet import device, engine
from SCFNet.checkpoint import load_plain
from SCFNet.errors import InputError, NotFiniteError
from SCFNet.loss import soft_target, sp_loss
from SCFNet.photos.transform import normalise
from SCFNet.training import state
from SCFNet.training.recipe import Recipe
from tests.conftest import STEP, recipe, reference_batch
from tests.fill_weights import fill
from tests.steps import skim

# In the fifth step of kd a ReLU is on the edge: it tips by rounding, with a jitter of 1e-7 of the
# photos too, and moves the losses by 1e-4.
RTOL = {"fs": 1e-4, "kd": 3e-4}

DATA = Path(__file__).parent / "data"


def test_rate_has_the_papers_ends_and_follows_the_release_after_the_warmup():
    rates = [engine.lr_at(step, 83, Recipe()) for step in range(69 * 83)]
    assert (rates[0], rates[5 * 83], rates[-1]) == (6.4e-4, 6.4e-2, 6.4e-4)
    assert max(rates) == 6.4e-2 and min(rates) == 6.4e-4
    release = json.loads((DATA / "lr_release.json").read_text())["lr_every_100_steps"]
    assert rates[500::100] == pytest.approx(release[5:], rel=1e-3)


@pytest.mark.parametrize("epochs, warmup", [(1, 5), (3, 0), (5, 5), (6, 0.5)])
def test_rate_of_short_runs_stays_in_range(epochs, warmup):
    knobs = recipe(epochs=epochs, lr=0.1, min_lr=0.001, warmup_epochs=warmup)
    rates = [engine.lr_at(step, 2, knobs) for step in range(2 * epochs)]
    assert all(0.001 <= rate <= 0.1 for rate in rates) and rates[-1] == 0.001


def test_kernel_size_follows_the_epoch():
    assert engine.kernel_at(0, recipe(kernel_size=5)) == 5
    assert [engine.kernel_at(epoch, recipe()) for epoch in (0, 10, 68)] == [13, 11, 1]
    assert engine.kernel_at(9, recipe(kernel_size="release")) == 11


@pytest.mark.parametrize("mode", ["fs", "kd"])
def test_steps_equal_the_releases(mode):
    """Six steps of SGD from the rule's weights: losses, and sums of the weights after them."""
    reference = json.loads((DATA / f"train_{mode}_seed5.json").read_text())
    knobs = recipe(backbone_lr_scale=0.1, loss="sp" if mode == "fs" else "dice")
    run = state.new_run(knobs)
    fill(run.net)
    images, masks, teacher = reference_batch()
    target = masks if mode == "fs" else soft_target(teacher)
    losses = [engine.train_step(run, images, target, 0.01, 13).numpy() for _ in range(6)]
    np.testing.assert_allclose(losses, reference["losses"], rtol=RTOL[mode])
    weights = run.net.state_dict()
    for key, (total, squares) in reference["sums_after"].items():
        value = weights[key].numpy().astype("float64")
        np.testing.assert_allclose(value.sum(), total, atol=1e-3 * (1e-3 + squares) ** 0.5)
        np.testing.assert_allclose((value**2).sum(), squares, rtol=1e-3, atol=1e-6)


def small_batch():
    """The first quarters of `reference_batch`, and their masks: [4, C, 64, 64]."""
    images, masks, _ = reference_batch()
    return images[:, :, :64, :64], masks[:, :, :64, :64]


def test_the_baseline_learns_from_one_map():
    run = state.new_run(recipe(decoder="base"))
    images, masks = small_batch()
    (m2,) = run.net(normalise(images, run.net.normalisation))
    total, of_m2 = engine.train_step(run, images, masks, 0.01, 5).tolist()
    assert total == of_m2 == pytest.approx(float(sp_loss(m2, masks, 5)), rel=1e-5)


def test_average_follows_the_weights():
    knobs = recipe(ema=0.5)
    run = state.new_run(knobs)
    before = {k: v.numpy() for k, v in run.net.state_dict().items()}
    engine.train_step(run, *small_batch(), 0.1, 1)
    decay = 2 / 11  # of a first step
    for key in ("linear2.weight", "bkbone.conv.bn._mean"):
        now, mean = run.net.state_dict()[key].numpy(), run.average.state_dict()[key].numpy()
        assert not np.array_equal(now, before[key])
        np.testing.assert_allclose(mean, decay * before[key] + (1 - decay) * now, atol=1e-6)
    assert run.result is run.average


def test_mixed_precision_trains():
    if not paddle.get_device().startswith("gpu"):
        pytest.skip("on a CPU Paddle ignores it, and this would prove nothing")
    losses = []
    for more in ({}, {"amp": True}):
        run = state.new_run(recipe(**more))
        losses.append([float(engine.train_step(run, *small_batch(), 0.01, 3)[0]) for _ in "abc"])
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.02)


def test_parts_of_a_batch_add_up_to_its_gradient():
    """Where batch norm does not see the parts: in eval mode."""
    weights, losses = [], []
    for parts in (1, 3):
        run = state.new_run(recipe(accumulate=parts))
        run.net.eval()
        losses.append(engine.train_step(run, *small_batch(), 0.01, 3).numpy())
        weights.append(run.net.linear2.weight.numpy())
    np.testing.assert_allclose(weights[1], weights[0], atol=1e-6)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


class Scaler:
    """Of a GradScaler what a step asks for, without a GPU: it skips what is not finite."""

    def is_enable(self):
        return True

    def scale(self, total):
        self.total = total
        return total

    def step(self, optimizer):
        if np.isfinite(float(self.total)):
            optimizer.step()

    def update(self):
        pass


def test_an_overflow_in_mixed_precision_skips_the_step(monkeypatch):
    run = state.new_run(recipe())
    run.scaler = Scaler()
    images, masks = small_batch()
    before = run.net.linear2.weight.numpy()
    overflow = images, paddle.full_like(masks, np.inf), None
    begun = [engine.learn(run, overflow, 0.01) for _ in range(2)]
    np.testing.assert_array_equal(run.net.linear2.weight.numpy(), before)
    assert not np.isfinite([losses[0] for losses in engine.fetch_losses(run, begun)]).any()
    assert run.skipped == 2 and run.sums[-1] == 0
    begun = [engine.learn(run, (images, masks, None), 0.01)]
    (losses,) = engine.fetch_losses(run, begun)
    assert run.skipped == 0 and np.abs(run.net.linear2.weight.numpy() - before).max() > 0
    np.testing.assert_array_equal(run.sums, [*losses * 4, 4])
    monkeypatch.setattr(engine, "SKIPS", 1)
    begun = [engine.learn(run, overflow, 0.01) for _ in range(2)]
    with pytest.raises(NotFiniteError, match="step 5"):
        list(engine.fetch_losses(run, begun))


def test_short_memory_is_one_line(pairs, tmp_path, monkeypatch):
    def learn(*_):
        raise RuntimeError("ResourceExhaustedError: \n\nOut of memory error on GPU 0.")

    monkeypatch.setattr(engine, "learn", learn)
    with pytest.raises(InputError, match=r"4 images of 96 px .*: give --accumulate 2") as error:
        engine.train(recipe(data=pairs, output=tmp_path, epochs=1))
    assert "\n" not in str(error.value)


def pretend_gpu(monkeypatch, is_gpu=True):
    for module in (engine, device):
        monkeypatch.setattr(module, "on_gpu", lambda: is_gpu)
    monkeypatch.setattr(paddle.device.cuda, "max_memory_allocated", lambda: 0)


@pytest.mark.parametrize("is_gpu", [False, True])
def test_batches_come_to_the_device_whole_and_their_fault_after_them(monkeypatch, is_gpu):
    """The loader uses its memory again, and its batches may lack masks."""

    def batches():
        memory = np.zeros((2, 3, 8, 8), "float32")
        for number in range(4):
            memory[:] = number
            yield Batch(memory, None if number == 1 else memory[:, :1])
        raise InputError("photo.jpg: is gone")

    pretend_gpu(monkeypatch, is_gpu)
    found = []
    with pytest.raises(InputError, match=r"photo\.jpg: is gone"):
        for batch in device.to_device(batches()):
            found.append(batch)
    assert [images.mean() for images, _, _ in found] == [0, 1, 2, 3]
    assert [None if masks is None else masks.mean() for _, masks, _ in found] == [0, None, 2, 3]
    assert found[0][0].shape == [2, 3, 8, 8] and found[0][2] is None


def test_on_a_gpu_losses_and_weights_are_those_of_a_cpu(pairs, tmp_path, monkeypatch, capsys):
    """What is printed and saved does not tell when batches and losses were fetched."""
    printed, kept, fetched = [], [], []
    fetch_losses = engine.fetch_losses

    def counted(run, begun):
        fetched.append(len(begun))
        return fetch_losses(run, begun)

    skim(monkeypatch)
    monkeypatch.setattr(engine, "fetch_losses", counted)
    for on_gpu in (False, True):
        pretend_gpu(monkeypatch, on_gpu)
        output = tmp_path / str(on_gpu)
        engine.train(recipe(data=pairs, output=output, epochs=2, log_every=2, save_every=5))
        printed.append(STEP.findall(capsys.readouterr().out))
        kept.append(load_plain(output / state.STATE))
        for record in kept[-1]["log"]:
            del record["minutes"]
    assert fetched == [1] * 6 + [2, 1, 1, 1, 1]  # 3 steps an epoch; step 5 is saved
    assert [int(number) for number, _ in printed[0]] == [2, 4, 6] and printed[1] == printed[0]
    assert kept[1]["log"] == kept[0]["log"]
    np.testing.assert_equal(kept[1]["weights"], kept[0]["weights"])


@pytest.mark.parametrize("on_gpu", [False, True])
def test_after_a_loss_that_is_not_finite_nothing_is_saved(
    pairs, tmp_path, monkeypatch, capsys, on_gpu
):
    pretend_gpu(monkeypatch, on_gpu)
    skim(monkeypatch)
    learn = engine.learn

    def learn_from_no_number(run, batch, lr):
        return learn(run, [batch[0] * np.nan] if run.step == 4 else batch, lr)

    monkeypatch.setattr(engine, "learn", learn_from_no_number)
    assert engine.train(recipe(data=pairs, output=tmp_path, epochs=2, log_every=0)) == 1
    assert "error: the loss of step 5 is not finite: nan; " in capsys.readouterr().out
    assert load_plain(tmp_path / state.STATE)["step"] == 3


def test_the_recipe_says_how_often_photos_are_upside_down(pairs):
    images = []
    for chance in (0, 1):
        told = recipe(data=pairs, workers=0, vertical_flip=chance)
        run = state.new_run(told, list_pairs(pairs))
        images.append(next(engine.epoch_batches(run, 0, [64]))[0])
    np.testing.assert_allclose(images[1], images[0][:, :, ::-1], atol=0.02)
