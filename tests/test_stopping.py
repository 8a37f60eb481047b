"""Signals: each that asks for an end is noted, and ignored ones stay ignored."""

import os
import signal

import pytest

from SCFNet.training.stopping import stop_requests


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("before", [signal.SIG_DFL, signal.SIG_IGN])
def test_signals_are_noted_but_for_a_closed_terminal_under_nohup(name, before):
    if not hasattr(signal, name):
        pytest.skip(f"there is no {name} here")
    number = getattr(signal, name)
    real = signal.signal(number, before)
    try:
        with stop_requests() as stops:
            os.kill(os.getpid(), number)
            ignored = name == "SIGHUP" and before == signal.SIG_IGN
            assert stops == ([] if ignored else [number])
            if name == "SIGINT":  # a second one acts at once
                assert signal.getsignal(number) == before
        assert signal.getsignal(number) == before
    finally:
        signal.signal(number, real)
