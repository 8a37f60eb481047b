"""SCFNet/scoring/tasks.py: which map belongs to which mask, and one pass over all."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from datasets.files import InputError
from datasets.masks import read_grey
from datasets.sod import list_folder
from SCFNet.metrics import PROTOCOLS
from SCFNet.scoring.tasks import CHUNK, Pair, Task, pair_maps, score_tasks

REFERENCE = Path(__file__).parent / "data" / "metrics_seed11"


@pytest.fixture
def maps(tmp_path):
    """A copy of the reference's maps, to spoil."""
    return Path(shutil.copytree(REFERENCE / "maps", tmp_path / "maps"))


def score_folder(maps, protocol="paper", workers=1, allow_missing=False):
    task = pair_maps("method", "set", maps, list_folder(REFERENCE / "gt"), allow_missing)
    return score_tasks([task], protocol, workers, allow_missing)[0]


def test_missing_map_stops_with_count_and_names(maps):
    for stem in ("0002", "0005"):
        (maps / f"{stem}.png").unlink()
    with pytest.raises(InputError, match=r"2 of 8 maps are missing \(0002, 0005\)"):
        score_folder(maps)
    result = score_folder(maps, allow_missing=True)
    assert (result.score.count, result.missing) == (6, ["0002", "0005"])


def test_extra_map_stops_with_count_and_names(maps):
    shutil.copy(maps / "0000.png", maps / "other.png")
    with pytest.raises(InputError, match=r"1 maps have no mask \(other\)"):
        score_folder(maps)
    result = score_folder(maps, allow_missing=True)
    assert (result.score.count, result.extra) == (8, ["other"])


def test_other_pictures_of_a_map_are_no_maps(maps):
    for name in ("0000-cutout.png", "0001-overlay.jpg"):
        shutil.copy(maps / "0000.png", maps / name)
    result = score_folder(maps)
    assert (result.score.count, result.extra) == (8, [])
    shutil.copy(maps / "0000.png", maps / "dog-cutout.png")  # there is no map called dog
    with pytest.raises(InputError, match=r"1 maps have no mask \(dog-cutout\)"):
        score_folder(maps)


def test_a_mask_that_is_called_a_cutout_is_scored(maps):
    shutil.copy(maps / "0000.png", maps / "0000-cutout.png")
    masks = {"0000-cutout": REFERENCE / "gt" / "0000.png", **list_folder(REFERENCE / "gt")}
    task = pair_maps("method", "set", maps, masks, allow_missing=False)
    assert "0000-cutout" in [pair.stem for pair in task.pairs]


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_unreadable_map_stops_with_count_and_names(maps, workers, monkeypatch):
    monkeypatch.setattr("SCFNet.scoring.tasks.CHUNK", 3)
    (maps / "0003.png").write_bytes((maps / "0003.png").read_bytes()[:500])
    (maps / "0004.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"2 of 8 maps cannot be scored \(0003, 0004\)"):
        score_folder(maps, workers=workers)
    result = score_folder(maps, workers=workers, allow_missing=True)
    assert (result.score.count, result.unreadable) == (6, ["0003", "0004"])


def test_nothing_to_average_stops_even_with_allow_missing(maps, tmp_path):
    masks = {"elsewhere": REFERENCE / "gt" / "0000.png"}
    with pytest.raises(InputError, match="1 of 1 maps are missing"):
        pair_maps("m", "s", maps, masks, allow_missing=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no image files"):
        pair_maps("m", "s", tmp_path / "empty", masks, allow_missing=True)
    with pytest.raises(InputError, match="no such folder"):
        pair_maps("m", "s", tmp_path / "nowhere", masks, allow_missing=True)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_workers_and_chunks_change_nothing(protocol):
    pairs = [
        Pair(path.stem, REFERENCE / "maps" / path.name, path)
        for path in sorted((REFERENCE / "gt").iterdir())
    ]
    task = Task("m", "s", pairs * (2 * CHUNK // len(pairs) + 1), [], [])
    seen = []
    alone = score_tasks([task], protocol, per_image=lambda *values: seen.append(values))[0]
    both = score_tasks([task], protocol, workers=2)[0]
    assert alone.score.count == both.score.count == len(seen) == len(task.pairs) > 2 * CHUNK
    assert both.score.result() == pytest.approx(alone.score.result(), abs=1e-9)
    assert seen[0][:3] == ("m", "s", "0000")


def test_scoring_leaves_the_threads_of_opencv_as_they_were(maps):
    threads = cv2.getNumThreads()
    score_folder(maps)
    assert cv2.getNumThreads() == threads


def test_deep_and_coloured_maps_score_as_grey(maps):
    plain = score_folder(maps).score.result()
    grey = [read_grey(maps / f"000{number}.png") for number in range(3)]
    cv2.imwrite(str(maps / "0000.png"), grey[0].astype(np.uint16) * 257)
    cv2.imwrite(str(maps / "0001.png"), np.stack([grey[1]] * 3, axis=-1))
    Image.fromarray(grey[2]).convert("P").save(maps / "0002.png")
    assert score_folder(maps).score.result() == pytest.approx(plain, abs=1e-9)
