"""What a run prints: the time that is left."""

import numpy as np

from datasets.sod import list_pairs
from SCFNet.training import log, state
from tests.conftest import recipe


def test_time_left_knows_that_late_sizes_take_longer(pairs, monkeypatch, capsys):
    knobs = recipe(epochs=2, sizes=96, late_sizes=192, late_from=0.5, log_every=1)
    run = state.new_run(knobs, list_pairs(pairs))
    run.steps_per_epoch = 10
    clock = [0.0]
    monkeypatch.setattr(log.time, "time", lambda: clock[0])
    with log.Log(run) as told:
        for run.step in range(1, 11):
            clock[0] += 1
            told.step(1, state.Step(np.ones(5), run.step, 0.1, 4, clock[0]), np.ones(5))
        run.log.append({"epoch": 1, "loss": 0.5})
        told.epoch(run)
        clock[0], run.step = clock[0] + 4, 11
        told.step(2, state.Step(np.ones(5), run.step, 0.1, 4, clock[0]), np.ones(5))
    lines = [line for line in capsys.readouterr().out.splitlines() if "left" in line]
    assert lines[4].endswith("4.0 images/s, 00:45 left")  # 5 steps of 1 s and 10 of 4 s
    assert lines[9].endswith("4.0 images/s, 00:40 left")
    assert lines[10].endswith("1.0 images/s, 00:36 left")
