"""SCFNet/scoring/tasks.py: which map belongs to which mask, and one pass over all."""

import multiprocessing
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.sod import list_folder
from SCFNet.errors import InputError
from SCFNet.scoring.tasks import Pair, Task, pair_maps, score_tasks

REFERENCE = Path(__file__).parent / "data" / "metrics_seed11"


@pytest.fixture
def maps(tmp_path):
    """A copy of the reference's maps, to spoil."""
    return Path(shutil.copytree(REFERENCE / "maps", tmp_path / "maps"))


def score_folder(maps, gt=REFERENCE / "gt", workers=1, allow_missing=False):
    task = pair_maps("method", "set", maps, list_folder(gt), allow_missing)
    return score_tasks([task], "paper", workers, allow_missing)[0]


def read_grey(path):
    return cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)


def test_missing_and_extra_maps_stop_with_count_and_names(maps):
    shutil.copy(maps / "0000.png", maps / "other.png")
    with pytest.raises(InputError, match=r"1 maps have no mask \(other\)"):
        score_folder(maps)
    for stem in ("0002", "0005"):
        (maps / f"{stem}.png").unlink()
    with pytest.raises(InputError, match=r"2 of 8 maps are missing \(0002, 0005\)"):
        score_folder(maps)
    result = score_folder(maps, allow_missing=True)
    found = result.score.count, result.missing, result.extra
    assert found == (6, ["0002", "0005"], ["other"])


def test_other_pictures_of_a_map_are_no_maps_unless_a_mask_is_called_so(maps):
    for name in ("0000-cutout.png", "0001-overlay.jpg"):
        shutil.copy(maps / "0000.png", maps / name)
    result = score_folder(maps)
    assert (result.score.count, result.extra) == (8, [])
    masks = {"0000-cutout": REFERENCE / "gt" / "0000.png", **list_folder(REFERENCE / "gt")}
    task = pair_maps("method", "set", maps, masks, allow_missing=False)
    assert "0000-cutout" in [pair.stem for pair in task.pairs]
    shutil.copy(maps / "0000.png", maps / "dog-cutout.png")  # there is no map called dog
    with pytest.raises(InputError, match=r"1 maps have no mask \(dog-cutout\)"):
        score_folder(maps)


FAULTS = {
    "0003": r"maps/0003\.png: is .* turn it",
    "0004": r"maps/0004\.png: cannot be read",
    "0006": r"gt/0006\.png: has a void",
}


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_cannot_be_scored_stops_with_count_names_and_fault(
    tmp_path, maps, workers, monkeypatch
):
    monkeypatch.setattr("SCFNet.scoring.tasks.CHUNK", 3)
    gt = Path(shutil.copytree(REFERENCE / "gt", tmp_path / "gt"))
    cv2.imwrite(str(maps / "0003.png"), read_grey(maps / "0003.png").T)
    (maps / "0004.png").write_bytes((maps / "0004.png").read_bytes()[:500])
    void = read_grey(gt / "0006.png") // 255
    void[:2] = 255  # beside label 1
    cv2.imwrite(str(gt / "0006.png"), void)
    with pytest.raises(InputError, match=r"3 of 8 maps cannot be scored \(0003, 0004, 0006\)"):
        score_folder(maps, gt, workers)
    result = score_folder(maps, gt, workers, allow_missing=True)
    assert (result.score.count, result.unreadable) == (5, [*FAULTS])
    for stem, fault in FAULTS.items():
        task = pair_maps("m", "s", maps, {stem: gt / f"{stem}.png"}, allow_missing=True)
        with pytest.raises(InputError, match=rf"1 of 1 maps cannot .* \({stem}\): .*{fault}"):
            score_tasks([task], "paper", allow_missing=True)


def test_nothing_to_average_stops_even_with_allow_missing(maps):
    masks = {"elsewhere": REFERENCE / "gt" / "0000.png"}
    with pytest.raises(InputError, match="1 of 1 maps are missing"):
        pair_maps("m", "s", maps, masks, allow_missing=True)


@pytest.mark.slow
def test_workers_and_chunks_change_nothing(monkeypatch):
    monkeypatch.setattr("SCFNet.scoring.tasks.CHUNK", 3)
    gt = list_folder(REFERENCE / "gt")
    pairs = [Pair(stem, REFERENCE / "maps" / path.name, path) for stem, path in gt.items()]
    task = Task("m", "s", pairs, [], [])
    seen = []
    alone = score_tasks([task], "paper", per_image=lambda *values: seen.append(values))[0]
    both = score_tasks([task], "paper", workers=2)[0]
    assert alone.score.count == both.score.count == len(seen) == len(task.pairs) == 8
    assert both.score.result() == pytest.approx(alone.score.result(), abs=1e-9)
    assert seen[0][:3] == ("m", "s", "0000")


@pytest.mark.slow
def test_a_worker_that_is_killed_is_no_hang(monkeypatch):
    monkeypatch.setattr("SCFNet.scoring.tasks.CHUNK", 1)
    pair = Pair("a", REFERENCE / "maps" / "0000.png", REFERENCE / "gt" / "0000.png")

    def kill(*_):
        for process in multiprocessing.active_children():
            process.kill()

    with pytest.raises(InputError, match=r"was killed.*fewer workers"):
        score_tasks([Task("m", "s", [pair] * 2000, [], [])], "paper", 2, per_image=kill)


def test_a_dim_map_counts_on_the_scale_of_its_folder(maps):
    """A constant map keeps its value, here of 1023, which the brightest map comes near."""
    for path in maps.iterdir():
        cv2.imwrite(str(path), np.full_like(cv2.imread(str(path), -1), 100, "uint16"))
    bright = cv2.imread(str(maps / "0000.png"), -1)
    bright[0, 0] = 1000
    cv2.imwrite(str(maps / "0000.png"), bright)
    found = {}
    task = pair_maps("m", "s", maps, list_folder(REFERENCE / "gt"), allow_missing=False)
    score_tasks([task], "pysod", per_image=lambda *v: found.update({v[2]: v[3]["MAE"]}))
    gt = read_grey(REFERENCE / "gt" / "0001.png") / 255
    assert found["0001"] == pytest.approx(np.abs(gt - 100 / 1023).mean(), abs=1e-6)


@pytest.mark.parametrize(
    ("mask", "map_", "pattern"),
    [
        *(("{}", "{}_sal", "*_sal"), ("{}", "{}-map", "*-map"), ("{}", "pred_{}", "pred_*")),
        *(("{}", "net/{}_sal", "*_sal"), ("{}_gt", "{}", "*_gt")),
    ],
)
def test_names_that_one_suffix_tells_apart_are_matched_and_it_is_said(maps, mask, map_, pattern):
    masks = {mask.replace("{}", stem): path for stem, path in list_folder(REFERENCE / "gt").items()}
    for path in list(maps.iterdir()):
        named = maps / f"{map_.replace('{}', path.stem)}.png"
        named.parent.mkdir(exist_ok=True)
        path.rename(named)
        shutil.copy(named, named.with_name(f"{named.stem}-cutout.png"))
    task = pair_maps("m", "s", maps, masks, allow_missing=False)
    assert (task.extra, task.missing) == ([], [])
    assert task.note == f"{maps}: 8 maps are matched as {pattern}"
    for pair in task.pairs:
        assert pair.mask.stem in pair.map.stem and "cutout" not in pair.map.stem


def test_of_two_suffixes_none_is_chosen(maps):
    for path in list(maps.iterdir()):
        shutil.copy(path, path.with_name(f"{path.stem}_a.png"))
        path.rename(path.with_name(f"{path.stem}_b.png"))
    with pytest.raises(InputError, match="8 of 8 maps are missing"):
        score_folder(maps)
