"""tools/train.py as a person runs it: killed and resumed, a dry run, with bad input."""

import json
import os
import random
import re
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets.sod import Sample
from SCFNet import engine
from SCFNet.checkpoint import load_checkpoint, load_plain
from SCFNet.distill import distill
from SCFNet.errors import ArgumentError, InputError
from SCFNet.training import state
from tests.conftest import (
    STEP,
    as_flags,
    distill_recipe,
    fault_of,
    recipe,
    run_until,
    start_tool,
    write_pairs,
)
from tests.steps import skim

ALL_THAT_IS_RANDOM = {
    "workers": 2,
    "optimizer": "adamw",
    "late_sizes": 128,
    "late_from": 0.5,
    "augment": "strong",
    "copy_paste": 0.5,
    "zoom": 0.5,
    "vertical_flip": 0.5,
}


@pytest.mark.slow
@pytest.mark.parametrize("more", [{"workers": 0}, ALL_THAT_IS_RANDOM])
def test_a_killed_run_goes_on_as_if_never_stopped(pairs, tmp_path, capsys, more):
    """SIGKILL at a random step, Ctrl-C after the resume, and on to the end."""
    knobs = {**more, "data": pairs, "epochs": 3, "ema": 0.9}
    whole = recipe(**{**knobs, "output": tmp_path / "whole", "workers": 0})
    assert engine.train(whole) == 0
    expected = {int(n): losses for n, losses in STEP.findall(capsys.readouterr().out)}
    assert sorted(expected) == list(range(1, 10))  # 10 samples in batches of 4: 3 steps an epoch

    flags = as_flags(**knobs, output=tmp_path / "cut", save_every=2, resume="auto")
    killed = start_tool("train", *flags)
    found = run_until(killed, random.randint(3, 5), signal.SIGKILL)  # steps are left for Ctrl-C
    assert killed.wait() == -signal.SIGKILL
    stopped = start_tool("train", *flags)
    found.update(run_until(stopped, 1, signal.SIGINT))
    assert stopped.wait() == 128 + signal.SIGINT
    if max(found) < 9:
        ended = start_tool("train", *flags)
        found.update(run_until(ended, 99, signal.SIGKILL))
        assert ended.wait() == 0
    assert found == expected
    states = [load_plain(tmp_path / name / state.STATE) for name in ("whole", "cut")]
    for kind in ("weights", "average"):
        for key, value in states[0][kind].items():
            np.testing.assert_array_equal(value, states[1][kind][key])
    records = (tmp_path / "cut" / state.LOG).read_text().splitlines()
    assert [json.loads(line)["step"] for line in records] == [3, 6, 9]


def test_a_dry_run_reports_what_a_run_takes_and_writes_nothing(pairs, tmp_path, capsys):
    curves = tmp_path / "my curves"
    knobs = {"data": pairs, "output": tmp_path / "out", "epochs": 6, "val_fraction": 0.2}
    assert engine.train(recipe(**knobs, log_dir=curves, dry_run=True)) == 0
    printed = capsys.readouterr().out
    assert "M3_0.5: 800,154 parameters" in printed
    assert "8 photos to train on, 2 to score" in printed
    assert re.search(r"a step of 4 images of 96 px on cpu: \d+\.\d\d s, \d+\.\d GB", printed)
    assert re.search(r"6 epochs of 2 steps, sizes 64 96: \d+\.\d hours", printed)
    assert f"--log-dir '{curves}'" in printed
    assert not any(tmp_path.iterdir())


def test_the_end_of_a_run_says_what_came_of_it(pairs, tmp_path, capsys):
    from visualdl import LogReader

    output, curves = tmp_path / "out", tmp_path / "curves"
    knobs = recipe(data=pairs, output=output, epochs=2, val_fraction=0.3, val_size=64, amp=True)
    assert engine.train(replace(knobs, log_dir=str(curves))) == 0
    printed = capsys.readouterr().out
    records = [json.loads(line) for line in (output / state.LOG).read_text().splitlines()]
    for record in records:
        assert 0 <= record["MAE"] <= 1 and 0 < record["Max-F"] <= 1
        shown = f"epoch {record['epoch']}/2: step {record['step']}, loss {record['loss']}, "
        assert f"{shown}MAE {record['MAE']}, Max-F {record['Max-F']}" in printed
    best = max(records, key=lambda record: record["Max-F"] - record["MAE"])
    done = f"done: {output / state.LAST}, 2 epochs, best MAE {best['MAE']}"
    assert printed.splitlines()[-1].startswith(done)
    assert set(load_checkpoint(output / state.BEST)) == set(load_checkpoint(output / state.LAST))

    reader = LogReader(file_path=str(next(curves.iterdir())))
    for tag in ("rate", "total", "m2", "m3", "m4", "m5"):  # 7 samples: 2 steps an epoch
        assert len(reader.get_data("scalar", f"train/{tag}")) == 4
    assert len(reader.get_data("scalar", "val/MAE")) == len(reader.get_data("image", "maps/2")) == 2

    assert engine.train(replace(knobs, resume="auto")) == 0
    assert f"{output}: all 2 epochs were done before\n{done}" in capsys.readouterr().out
    with pytest.raises(InputError, match="holds a run: give --resume auto"):
        engine.train(knobs)


def score_in_turn(monkeypatch, *values):
    """Let the scorings of a run find these values of Max-F."""
    scores = [{"MAE": 0.1, "Max-F": value} for value in values]
    monkeypatch.setattr(engine, "evaluate", lambda *_: scores.pop(0))


@pytest.mark.parametrize("gain", [0.1, -0.1])
def test_the_start_is_scored_and_never_lost(
    pairs, teacher_file, tmp_path, capsys, monkeypatch, gain
):
    skim(monkeypatch)
    score_in_turn(monkeypatch, 0.8, 0.8 + gain)
    knobs = recipe(data=pairs, output=tmp_path, epochs=1, pretrained=teacher_file, val_fraction=0.3)
    assert engine.train(knobs) == 0
    start, *_, done = [x for x in capsys.readouterr().out.splitlines() if "left" not in x]
    assert start == "start: MAE 0.1, Max-F 0.8"
    assert len((tmp_path / state.LOG).read_text().splitlines()) == 1
    best = load_checkpoint(tmp_path / state.BEST)
    for key, value in load_checkpoint(tmp_path / state.LAST if gain > 0 else teacher_file).items():
        np.testing.assert_array_equal(best[key], value)
    if gain > 0:
        assert done.endswith(f"Max-F 0.9 in epoch 1: {tmp_path / state.BEST}")
    else:
        warning = f"warning: none was better than the start, which {tmp_path / state.BEST} holds"
        assert done.endswith(warning)


def test_patience_ends_a_run_that_gains_no_more(pairs, tmp_path, capsys, monkeypatch):
    skim(monkeypatch)
    score_in_turn(monkeypatch, 0.5, 0.8, 0.7, 0.8)
    knobs = recipe(data=pairs, output=tmp_path, epochs=9, patience=2, val_fraction=0.3, keep_last=2)
    assert engine.train(knobs) == 0
    *_, stopped, done = capsys.readouterr().out.splitlines()
    assert stopped == "stopped: 2 scorings in a row were not the best"
    assert "4 epochs, best MAE 0.1 and Max-F 0.8 in epoch 2" in done
    kept = sorted(path.name for path in tmp_path.glob("epoch-*"))
    assert kept == ["epoch-3.pdparams", "epoch-4.pdparams"]
    assert engine.train(replace(knobs, resume="auto")) == 0
    assert f"all 4 epochs were done before\n{done}" in capsys.readouterr().out
    with pytest.raises(ArgumentError, match="patience: needs --val"):
        recipe(patience=1)


def test_a_stopped_run_goes_on_with_another_batch_size(pairs, tmp_path, capsys, monkeypatch):
    """From the start of the epoch in which SIGTERM came."""
    knobs = recipe(data=pairs, output=tmp_path, epochs=2)  # 3 steps each
    skim(monkeypatch, lambda run: run.step == 3 and os.kill(os.getpid(), signal.SIGTERM))
    assert engine.train(knobs) == 128 + signal.SIGTERM
    skim(monkeypatch)
    assert load_plain(tmp_path / state.STATE)["step"] == 4
    capsys.readouterr()
    assert engine.train(replace(knobs, resume="auto", batch_size=2, lr=0.02)) == 0
    printed = capsys.readouterr().out
    assert "an epoch has 5 steps, not 3 as before: epoch 2 begins at its start" in printed
    assert "batch_size: 4 -> 2" in printed and "lr: 0.01 -> 0.02" in printed
    assert [int(n) for n, _ in STEP.findall(printed)] == [6, 7, 8, 9, 10]


@pytest.mark.parametrize("fraction, part", [(0.04, "none"), (0.96, "all")])
def test_a_fraction_that_holds_back_none_or_all_is_refused(pairs, tmp_path, fraction, part):
    knobs = {"data": pairs, "output": tmp_path / "out", "val_fraction": fraction}
    distilled = distill_recipe(**knobs, teacher=pairs / "mask")
    for train, told in ((engine.train, recipe(**knobs)), (distill, distilled)):
        with pytest.raises(ArgumentError, match=f"val_fraction: {fraction} holds back {part} of"):
            train(told)
    assert not (tmp_path / "out").exists()


def test_a_damaged_photo_stops_a_run_before_it_writes_or_is_left_out_if_asked(tmp_path, capsys):
    data = write_pairs(tmp_path / "data", 4)
    (data / "image" / "3.jpg").write_bytes(b"no photo")
    with pytest.raises(InputError, match=r"3\.jpg"):
        engine.train(recipe(data=data, output=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    kept, _ = engine.training_samples(recipe(data=data, skip_unreadable=True))
    assert len(kept) == 3
    assert re.search(r"image: left out 1 of 4: .*3\.jpg: ", capsys.readouterr().out)


def test_a_photo_that_a_list_repeats_is_held_back_whole():
    """Else the network would be scored on what it has learnt."""
    samples = [Sample(stem, Path(stem), Path(stem)) for stem in "aabbbcdddefgh"]
    kept, held = engine.hold_back(samples, 0.5)
    stems = [{one.stem for one in part} for part in (kept, held)]
    assert len(held) == 4 and stems[0] | stems[1] == set("abcdefgh") and not stems[0] & stems[1]
    assert [one.stem for one in kept] == [s.stem for s in samples if s not in held]


def test_what_a_run_cannot_read_or_write_is_one_line(pairs, tmp_path):
    (tmp_path / "file").write_text("hello")
    for name, told, message in (
        ("data", tmp_path / "nowhere", "nowhere: no such folder"),
        ("output", tmp_path / "file" / "out", "cannot be written"),
        ("pretrained", tmp_path / "file", "not a checkpoint"),
        ("resume", tmp_path / "file", "not a checkpoint"),
    ):
        flags = as_flags(**{"data": pairs, "output": tmp_path / "out", name: told})
        assert message in fault_of("train", *flags)
