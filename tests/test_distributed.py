"""Several processes: the device of each, two that equal one, one that does not answer."""

import signal

import numpy as np
import paddle
import pytest

from datasets.loader import Epoch, batches
from datasets.sod import list_pairs
from SCFNet import engine
from SCFNet.checkpoint import load_checkpoint
from SCFNet.device import set_device
from SCFNet.errors import InputError
from SCFNet.loss import map_losses, weighted_sum
from SCFNet.photos.transform import normalise
from SCFNet.training import distributed, state
from tests.conftest import as_flags, recipe, run_until, start_tool


def test_a_process_that_does_not_answer_is_one_line(monkeypatch):
    def all_reduce(tensor, op):
        raise RuntimeError("[gloo] TIMEOUT self_rank = none")

    assert distributed.largest_over_processes(15) == 15
    distributed.wait_for_processes()
    monkeypatch.setattr(paddle.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(paddle.distributed, "all_reduce", all_reduce)
    with pytest.raises(InputError, match="does not answer; start all again with --resume auto"):
        distributed.wait_for_processes()


@pytest.mark.parametrize("device", ["tpu", "cpu:1", "gpu:x", "gpu", "gpu:7"])
def test_devices_that_are_not_there_are_refused(device):
    if device.startswith("gpu") and paddle.device.cuda.device_count():
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match=f"device: .*{device}"):
        distributed.start_devices(device)


def test_a_gpu_that_paddle_has_no_kernels_for_is_named(monkeypatch):
    chosen = []
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle.device, "set_device", chosen.append)
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(paddle.device.cuda, "get_device_name", lambda _: "NVIDIA New")

    def ones(_):
        raise OSError("CUDA error(209), no kernel image is available for execution on the device")

    monkeypatch.setattr(paddle, "ones", ones)
    with pytest.raises(
        InputError, match=r"device: gpu: Paddle .* on this GPU, NVIDIA New; use cpu"
    ):
        set_device("gpu")
    with pytest.warns(UserWarning, match="NVIDIA New: the CPU is used"):
        assert set_device("auto") == "cpu"
    assert chosen == ["gpu:0", "gpu:0", "cpu"]


@pytest.mark.parametrize("flag", [False, True])
def test_a_gpu_can_be_asked_for_the_same_numbers_each_time(monkeypatch, flag):
    """By Paddle's flag for cuDNN, which a Paddle without CUDA does not know."""
    told = {}
    distributed.start_devices("cpu", True)
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle.device, "set_device", lambda _: None)
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(paddle, "set_flags", told.update)
    engine.prepare(recipe(device="gpu", **({"deterministic": True} if flag else {})))
    assert told == {"FLAGS_cudnn_deterministic": flag}


@pytest.mark.slow
def test_two_processes_equal_one_but_for_batch_norm(pairs, tmp_path):
    """The mean of two half batches, in losses and in gradients, is what two processes print."""
    launcher = ["-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir"]
    knobs = {"data": pairs, "output": tmp_path / "two", "epochs": 1}
    process = start_tool("train", *as_flags(**knobs), launcher=[*launcher, str(tmp_path / "log")])
    knobs = recipe(**knobs)
    found = run_until(process, 99, signal.SIGKILL)
    assert process.wait() == 0
    assert sorted(found) == [1, 2, 3]

    distributed.start_devices("cpu")
    run = state.new_run(knobs)
    halves = (
        batches(Epoch(list_pairs(pairs), knobs.sizes, 2, rank=rank, world=2)) for rank in (0, 1)
    )
    for step, parts in enumerate(zip(*halves)):
        whole = sum(len(batch.images) for batch in parts)
        total = np.zeros(4)
        for images, masks, _ in parts:
            share = len(images) / whole
            maps = run.net(normalise(paddle.to_tensor(images), run.net.normalisation))
            losses = map_losses(maps, paddle.to_tensor(masks), "sp", 13)
            (weighted_sum(losses) * share).backward()
            total += np.array([float(loss) for loss in losses]) * share
        run.optimizer.set_lr(engine.lr_at(step, 3, knobs))
        run.optimizer.step()
        run.optimizer.clear_grad()
        printed = [float(number) for number in found[step + 1].split()[3:]]
        np.testing.assert_allclose(printed, total, rtol=2e-4)
    weights = load_checkpoint(tmp_path / "two" / state.LAST)
    for key, value in run.net.state_dict().items():
        if not key.endswith(("_mean", "_variance")):
            np.testing.assert_allclose(weights[key], value.numpy(), atol=2e-4)
