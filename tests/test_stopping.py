"""Signals: each that asks for an end saves the run first, and ignored ones stay ignored."""

import os
import signal

import pytest

from SCFNet import engine
from SCFNet.checkpoint import load_plain
from SCFNet.training import state
from SCFNet.training.stopping import stop_requests
from tests.conftest import recipe


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_saves_the_run_and_is_its_exit_code(pairs, tmp_path, monkeypatch, name):
    if not hasattr(signal, name):
        pytest.skip(f"there is no {name} here")
    number, learn = getattr(signal, name), engine.learn

    def learn_and_be_stopped(run, *rest):
        if run.step == 1:
            os.kill(os.getpid(), number)
        return learn(run, *rest)

    monkeypatch.setattr(engine, "learn", learn_and_be_stopped)
    before = signal.signal(number, signal.SIG_DFL)  # under nohup it may be ignored
    try:
        assert engine.train(recipe(data=pairs, output=tmp_path, epochs=1)) == 128 + number
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert load_plain(tmp_path / state.STATE)["step"] == 2


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP here")
def test_under_nohup_a_closed_terminal_does_not_stop_a_run():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_requests() as stops:
            os.kill(os.getpid(), signal.SIGHUP)
        assert not stops
    finally:
        signal.signal(signal.SIGHUP, before)
