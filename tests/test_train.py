"""tools/train.py as a person runs it: killed and resumed, on two processes, with bad input."""

import json
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import paddle
import pytest

from datasets.files import InputError, write_atomically
from datasets.loader import batches
from datasets.sod import list_pairs
from SCFNet import engine
from SCFNet.checkpoint import dump_plain, load_checkpoint, load_plain
from SCFNet.loss import map_losses, weighted_sum
from SCFNet.training import distributed as processes
from SCFNet.training import state as training_run
from SCFNet.training.recipe import Recipe, parse
from SCFNet.training.state import claimed

TOOL = str(Path(__file__).parents[1] / "tools" / "train.py")
STEP = re.compile(r"step (\d+) rate \S+ (loss \S+ maps \S+ \S+ \S+ \S+)")
FLAGS = "--pretrained none --device cpu --sizes 64 96 --batch-size 4 --log-every 1 --lr 0.01"


def write_pairs(folder, count=10):
    """A data set of coloured boxes on noise, 72 x 64."""
    rng = np.random.default_rng(0)
    for i in range(count):
        image = rng.integers(0, 120, (64, 72, 3), "uint8")
        mask = np.zeros((64, 72), "uint8")
        y, x = rng.integers(4, 30, 2)
        mask[y : y + 25, x : x + 30] = 255
        image[mask > 0] += 100
        for kind, name, array in (("image", f"{i}.jpg", image), ("mask", f"{i}.png", mask)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / kind / name), array)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("data"))


def recipe(data, output, flags=""):
    return parse(Recipe, "", f"{FLAGS} --data {data} --output {output} {flags}".split())


def start(*flags, launcher=(), tool=TOOL):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-u", *launcher, tool, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def run_until(process, steps, number):
    """The losses that `process` prints, by step; it gets signal `number` after `steps` of them."""
    losses = {}
    for line in process.stdout:
        found = STEP.search(line)
        if found:
            losses[int(found[1])] = found[2]
            if len(losses) == steps:
                process.send_signal(number)
    return losses


def test_two_runs_do_not_share_an_output_folder(data, tmp_path):
    one = recipe(data, tmp_path, "--epochs 1")
    with claimed(one), pytest.raises(InputError, match="another run"):
        engine.train(one)
    assert not (tmp_path / "last.state").exists()
    assert engine.train(one) == 0


def test_a_folder_that_cannot_be_locked(data, tmp_path):
    (tmp_path / ".lock").mkdir()
    with pytest.raises(InputError, match="give another --output"):
        engine.train(recipe(data, tmp_path))


@pytest.mark.parametrize(
    "more",
    [
        "--workers 0",
        "--workers 2 --optimizer adamw --late-sizes 128 --late-from 0.5 --augment strong"
        " --copy-paste 0.5 --zoom 0.5",
    ],
)
def test_a_killed_run_goes_on_as_if_never_stopped(data, tmp_path, capsys, more):
    """SIGKILL at a random step, Ctrl-C after the resume, and on to the end."""
    more += " --epochs 3 --ema 0.9"
    whole = recipe(data, tmp_path / "whole", f"{more} --workers 0")
    assert engine.train(whole) == 0
    expected = {int(n): losses for n, losses in STEP.findall(capsys.readouterr().out)}
    assert sorted(expected) == list(range(1, 10))  # 10 samples in batches of 4: 3 steps an epoch

    flags = f"{FLAGS} {more} --data {data} --output {tmp_path / 'cut'}".split()
    flags += ["--save-every", "2", "--resume", "auto"]
    killed = start(*flags)
    found = run_until(killed, random.randint(3, 7), signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    stopped = start(*flags)
    found.update(run_until(stopped, 1, signal.SIGINT))
    assert stopped.wait() == 128 + signal.SIGINT
    if max(found) < 9:
        ended = start(*flags)
        found.update(run_until(ended, 99, signal.SIGKILL))
        assert ended.wait() == 0
    assert found == expected
    states = [load_plain(tmp_path / name / training_run.STATE) for name in ("whole", "cut")]
    for kind in ("weights", "average"):
        for key, value in states[0][kind].items():
            np.testing.assert_array_equal(value, states[1][kind][key])
    records = (tmp_path / "cut" / training_run.LOG).read_text().splitlines()
    assert [json.loads(line)["step"] for line in records] == [3, 6, 9]


def test_two_processes_equal_one_but_for_batch_norm(data, tmp_path):
    """The mean of two half batches, in losses and in gradients, is what two processes print."""
    launcher = ["-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir"]
    knobs = recipe(data, tmp_path / "two", "--epochs 1")
    process = start(
        *f"{FLAGS} --epochs 1 --data {data} --output {tmp_path / 'two'}".split(),
        launcher=[*launcher, str(tmp_path / "log")],
    )
    found = run_until(process, 99, signal.SIGKILL)
    assert process.wait() == 0
    assert sorted(found) == [1, 2, 3]

    processes.start_devices("cpu")
    run = training_run.new_run(knobs)
    halves = [
        list(batches(list_pairs(data), 2, knobs.sizes, 0, 0, rank=rank, world=2)) for rank in (0, 1)
    ]
    for step in (0, 1, 2):
        parts = [half[step] for half in halves]
        whole = sum(len(images) for images, _ in parts)
        total = np.zeros(4)
        for images, masks in parts:
            share = len(images) / whole
            maps = run.net(paddle.to_tensor(images))
            losses = map_losses(maps, paddle.to_tensor(masks), "sp", 13)
            (weighted_sum(losses) * share).backward()
            total += np.array([float(loss) for loss in losses]) * share
        run.optimizer.set_lr(engine.lr_at(step, 3, 1, knobs.lr, knobs.min_lr))
        run.optimizer.step()
        run.optimizer.clear_grad()
        printed = [float(number) for number in found[step + 1].split()[3:]]
        np.testing.assert_allclose(printed, total, rtol=2e-4)
    weights = load_checkpoint(tmp_path / "two" / training_run.LAST)
    for key, value in run.net.state_dict().items():
        if not key.endswith(("_mean", "_variance")):
            np.testing.assert_allclose(weights[key], value.numpy(), atol=2e-4)


def test_scoring_best_weights_and_visualdl(data, tmp_path):
    from visualdl import LogReader

    flags = f"--epochs 2 --val-fraction 0.3 --val-size 64 --log-dir {tmp_path / 'vdl'} --amp"
    assert engine.train(recipe(data, tmp_path / "out", flags)) == 0
    records = [
        json.loads(line)
        for line in (tmp_path / "out" / training_run.LOG).read_text().split("\n")[:-1]
    ]
    assert all(0 <= record["MAE"] <= 1 and 0 < record["Max-F"] <= 1 for record in records)
    assert set(load_checkpoint(tmp_path / "out" / training_run.BEST)) == set(
        load_checkpoint(tmp_path / "out" / training_run.LAST)
    )
    reader = LogReader(file_path=str(next((tmp_path / "vdl").iterdir())))
    for tag in ("train/rate", "train/total", "train/m3", "train/m4", "train/m5"):
        assert len(reader.get_data("scalar", tag)) == 4
    assert len(reader.get_data("scalar", "val/MAE")) == 2
    assert len(reader.get_data("scalar", "train/m2")) == 4  # 7 samples: 2 steps an epoch
    assert len(reader.get_data("image", "maps/2")) == 2


def test_a_loss_that_is_not_finite_ends_the_run(data, tmp_path, capsys):
    output = tmp_path / "out"
    flags = "--epochs 9 --loss bce --lr 1e30 --min-lr 1e-3 --warmup-epochs 1 --save-every 1"
    assert engine.train(recipe(data, output, flags)) == 1
    assert re.search(r"error: (the loss of|after) step \d+", capsys.readouterr().out)
    kept = load_checkpoint(output / training_run.LAST)
    assert all(np.isfinite(value).all() for value in kept.values())


def test_a_dry_run_does_one_step_and_writes_nothing(data, tmp_path, capsys):
    assert engine.train(recipe(data, tmp_path / "out", "--dry-run")) == 0
    assert len(STEP.findall(capsys.readouterr().out)) == 1
    assert not list((tmp_path / "out").iterdir())


def test_fine_tuning_from_a_trained_network(data, tmp_path, capsys):
    assert engine.train(recipe(data, tmp_path / "a", "--epochs 1")) == 0
    flags = f"--epochs 1 --pretrained {tmp_path / 'a' / training_run.LAST} --dry-run"
    assert engine.train(recipe(data, tmp_path / "b", flags)) == 0
    with pytest.raises(InputError, match="holds a run: give --resume auto"):
        engine.train(recipe(data, tmp_path / "a"))


def empty(folder):
    (folder / "image").mkdir(parents=True)
    (folder / "mask").mkdir()


def maskless(folder):
    write_pairs(folder, 12)
    for i in range(12):
        (folder / "mask" / f"{i}.png").unlink()


def corrupt(folder):
    write_pairs(folder)
    path = folder / "image" / "3.jpg"
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize(
    "spoil, message",
    [(empty, "names no images"), (maskless, "12 faults.* and 2 more"), (corrupt, "3.jpg")],
)
def test_bad_data_is_refused_before_training(tmp_path, spoil, message):
    spoil(tmp_path / "data")
    with pytest.raises(InputError, match=message) as error:
        engine.train(recipe(tmp_path / "data", tmp_path / "out"))
    assert "\n" not in str(error.value)


def test_bad_output_and_checkpoints_are_refused(data, tmp_path):
    (tmp_path / "file").write_text("")
    other = {"bkbone.layer1.0.conv3.weight": np.zeros((3, 3), "float32")}
    write_atomically(tmp_path / "R50.pdparams", dump_plain(other))
    (tmp_path / "not.pdparams").write_text("hello")
    for flags, message in (
        (f"--output {tmp_path / 'file' / 'out'}", "cannot be written"),
        (f"--pretrained {tmp_path / 'R50.pdparams'}", r"is of R50, not of M3_0\.5"),
        (f"--pretrained {tmp_path / 'not.pdparams'}", "not a checkpoint"),
        (f"--pretrained {tmp_path / 'missing.pdparams'}", "cannot be read"),
        (f"--resume {tmp_path / 'R50.pdparams'}", "not a training state"),
    ):
        with pytest.raises(InputError, match=message) as error:
            engine.train(recipe(data, tmp_path / "out", flags))
        assert "\n" not in str(error.value)


def test_bad_input_ends_with_code_2_and_one_line(tmp_path):
    process = start("--data", str(tmp_path / "nowhere"))
    output, errors = process.communicate()
    assert process.returncode == 2 and not output
    assert re.fullmatch(r"error: .*nowhere: no such folder.*\n", errors)
