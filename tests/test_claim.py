"""One run an output folder: also if it is deleted meanwhile; leftovers of killed runs go."""

import shutil
from pathlib import Path

import pytest

from SCFNet import engine
from SCFNet.errors import InputError
from SCFNet.training.claim import LOCK, Claim, claimed
from tests.conftest import recipe


def test_two_runs_do_not_share_an_output_folder(pairs, tmp_path):
    one = recipe(data=pairs, output=tmp_path, epochs=1)
    with claimed(one), pytest.raises(InputError, match="another run"):
        engine.train(one)
    assert not (tmp_path / "last.state").exists()
    assert engine.train(one) == 0


def test_a_folder_that_cannot_be_locked(pairs, tmp_path):
    (tmp_path / LOCK).mkdir()
    with pytest.raises(InputError, match="give another --output"):
        engine.train(recipe(data=pairs, output=tmp_path))


def test_a_folder_that_was_deleted_is_taken_again(tmp_path):
    folder = tmp_path / "out"
    claim = Claim(folder)
    claim.renew()
    shutil.rmtree(folder)
    claim.renew()
    with pytest.raises(InputError, match="another run is writing here"):
        Claim(folder)
    claim.release()
    Claim(folder).release()


def test_a_folder_that_was_made_again_belongs_to_who_took_it_first(tmp_path):
    folder = tmp_path / "out"
    first = Claim(folder)
    shutil.rmtree(folder)
    second = Claim(folder)
    with pytest.raises(InputError, match="another run is writing here"):
        first.renew()
    second.renew()
    second.release()


def test_a_run_whose_folder_was_taken_ends_before_it_writes(pairs, tmp_path, monkeypatch):
    folder = tmp_path / "out"
    learn, others = engine.learn, []

    def learn_and_lose_the_folder(*arguments):
        if not others:
            shutil.rmtree(folder)
            others.append(Claim(folder))
        return learn(*arguments)

    monkeypatch.setattr(engine, "learn", learn_and_lose_the_folder)
    with pytest.raises(InputError, match="another run is writing here"):
        engine.train(recipe(data=pairs, output=folder, epochs=1))
    assert [path.name for path in folder.iterdir()] == [LOCK]
    others[0].release()


def test_what_killed_runs_left_is_removed_at_the_next_start(pairs, tmp_path):
    leftover = Path(tmp_path, ".last.4711-140.tmp")
    leftover.write_bytes(b"half a state")
    assert engine.train(recipe(data=pairs, output=tmp_path, epochs=1)) == 0
    assert not leftover.exists()
