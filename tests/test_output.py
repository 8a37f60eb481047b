"""The output folder: one run alone, also if it is deleted meanwhile; what killed runs left goes."""

import shutil
from pathlib import Path

import pytest

from SCFNet import engine
from SCFNet.errors import InputError
from SCFNet.training.output import LOCK, OutputFolder
from SCFNet.training.state import LAST, new_run
from tests.conftest import recipe
from tests.steps import skim


def test_two_runs_do_not_share_a_folder_and_what_killed_ones_left_goes(
    pairs, tmp_path, monkeypatch
):
    skim(monkeypatch)
    one = recipe(data=pairs, output=tmp_path, epochs=1)
    leftover = Path(tmp_path, ".last.4711-140.tmp")
    with OutputFolder(one):
        leftover.write_bytes(b"half a state")
        with pytest.raises(InputError, match="another run"):
            engine.train(one)
    assert not (tmp_path / "last.state").exists() and leftover.exists()
    assert engine.train(one) == 0
    assert not leftover.exists()


def test_a_folder_that_cannot_be_locked(pairs, tmp_path):
    (tmp_path / LOCK).mkdir()
    with pytest.raises(InputError, match="give another --output"):
        engine.train(recipe(data=pairs, output=tmp_path))


def test_a_folder_that_was_deleted_is_taken_again(tmp_path):
    knobs = recipe(output=tmp_path / "out")
    run = new_run(knobs)
    with OutputFolder(knobs) as output:
        output.save(run)
        shutil.rmtree(output.path)
        output.save(run)
        assert (output.path / LAST).exists()
        with pytest.raises(InputError, match="another run is writing here"), OutputFolder(knobs):
            pass
    with OutputFolder(knobs) as again:
        again.save_best(run)


def test_a_run_whose_folder_was_taken_ends_before_it_writes(pairs, tmp_path, monkeypatch):
    knobs = recipe(data=pairs, output=tmp_path / "out", epochs=1)
    other = OutputFolder(knobs)

    def lose_the_folder(run):
        if not run.step:
            shutil.rmtree(other.path)
            other.__enter__()

    skim(monkeypatch, lose_the_folder)
    with pytest.raises(InputError, match="another run is writing here"):
        engine.train(knobs)
    assert [path.name for path in other.path.iterdir()] == [LOCK]
    other.__exit__()
