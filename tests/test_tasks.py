"""SCFNet/scoring/tasks.py: which map belongs to which mask, and one pass over all."""

import multiprocessing
import shutil
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from datasets.sod import list_folder
from SCFNet.errors import InputError
from SCFNet.metrics import PROTOCOLS
from SCFNet.photos.writing import write_png
from SCFNet.scoring.tasks import Pair, Task, pair_maps, score_tasks

REFERENCE = Path(__file__).parent / "data" / "metrics_seed11"


@pytest.fixture
def maps(tmp_path):
    """A copy of the reference's maps, to spoil."""
    return Path(shutil.copytree(REFERENCE / "maps", tmp_path / "maps"))


def score_folder(maps, protocol="paper", workers=1, allow_missing=False):
    task = pair_maps("method", "set", maps, list_folder(REFERENCE / "gt"), allow_missing)
    return score_tasks([task], protocol, workers, allow_missing)[0]


@lru_cache(maxsize=None)
def plain(protocol="paper"):
    """The scores of the reference's maps as they are."""
    return score_folder(REFERENCE / "maps", protocol).score.result()


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
def test_workers_and_chunks_change_nothing(monkeypatch):
    monkeypatch.setattr("SCFNet.scoring.tasks.CHUNK", 3)
    pairs = [
        Pair(path.stem, REFERENCE / "maps" / path.name, path)
        for path in sorted((REFERENCE / "gt").iterdir())
    ]
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


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("levels", [(0, 1), (7, 130)])
def test_both_protocols_find_the_object_of_any_two_levels(tmp_path, maps, protocol, levels):
    for path in maps.iterdir():
        mask = cv2.imread(str(REFERENCE / "gt" / path.name), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(path), mask)
        coded = np.where(mask > 0, levels[1], levels[0]).astype(np.uint8)
        write_png(tmp_path / "gt" / path.name, coded)
    task = pair_maps("m", "s", maps, list_folder(tmp_path / "gt"), allow_missing=False)
    values = score_tasks([task], protocol)[0].score.result()
    assert values["MAE"] == pytest.approx(0, abs=1e-12)
    assert values["Wgt-F"] == pytest.approx(1)


def test_a_mask_that_cannot_be_told_stops_with_its_name(tmp_path, maps):
    folder = Path(shutil.copytree(REFERENCE / "gt", tmp_path / "gt"))
    mask = cv2.imread(str(folder / "0003.png"), cv2.IMREAD_GRAYSCALE) // 255
    mask[:2] = 255  # the void beside label 1
    write_png(folder / "0003.png", mask)
    task = pair_maps("m", "s", maps, list_folder(folder), allow_missing=False)
    with pytest.raises(InputError, match=r"1 of 8 maps cannot be scored \(0003\).*0003\.png"):
        score_tasks([task], "paper")
    assert score_tasks([task], "paper", allow_missing=True)[0].unreadable == ["0003"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("kind", "white", "suffix"),
    [("uint16", 255, ".png"), ("uint16", 1023, ".png"), ("float32", 255, ".tif")],
)
def test_maps_score_alike_at_any_depth_and_scale(maps, protocol, kind, white, suffix):
    for path in list(maps.iterdir()):
        numbers = (cv2.imread(str(path), -1) * (white / 255)).astype(kind)
        path.unlink()
        if kind == "uint16":
            cv2.imwrite(str(path), numbers)
        else:
            Image.fromarray(numbers).save(path.with_suffix(suffix))
    found = score_folder(maps, protocol).score.result()
    assert found == pytest.approx(
        plain(protocol), abs=2e-3
    )  # a threshold may fall between two roundings


def test_a_dim_map_of_numbers_to_1023_is_not_stretched_by_pysod_to_another(tmp_path, maps):
    """A constant map keeps its value on its folder's scale."""
    for path in maps.iterdir():
        cv2.imwrite(str(path), np.full_like(cv2.imread(str(path), -1), 100, "uint16"))
    bright = cv2.imread(str(maps / "0000.png"), -1)
    bright[0, 0] = 1000
    cv2.imwrite(str(maps / "0000.png"), bright)
    found = {}
    task = pair_maps("m", "s", maps, list_folder(REFERENCE / "gt"), allow_missing=False)
    score_tasks([task], "pysod", per_image=lambda *v: found.update({v[2]: v[3]["MAE"]}))
    gt = cv2.imread(str(REFERENCE / "gt" / "0001.png"), 0) / 255
    assert found["0001"] == pytest.approx(np.abs(gt - 100 / 1023).mean(), abs=1e-6)


@pytest.mark.parametrize("pattern", ["{}_sal", "{}-map", "pred_{}", "net/{}_sal"])
def test_maps_with_a_common_suffix_are_matched_and_it_is_said(maps, pattern):
    for path in list(maps.iterdir()):
        named = maps / f"{pattern.replace('{}', path.stem)}.png"
        named.parent.mkdir(exist_ok=True)
        path.rename(named)
        shutil.copy(named, named.with_name(f"{named.stem}-cutout.png"))
    masks = list_folder(REFERENCE / "gt")
    task = pair_maps("m", "s", maps, masks, allow_missing=False)
    assert task.note == f"{maps}: 8 maps are matched as {pattern.split('/')[-1].replace('{}', '*')}"
    assert score_tasks([task], "paper")[0].score.result() == pytest.approx(plain(), abs=1e-9)


def test_masks_with_a_common_suffix_are_matched_too(maps):
    masks = {f"{stem}_gt": path for stem, path in list_folder(REFERENCE / "gt").items()}
    task = pair_maps("m", "s", maps, masks, allow_missing=False)
    assert (len(task.pairs), task.extra, task.missing) == (8, [], [])
    assert task.note.endswith("8 maps are matched as *_gt")


def test_of_two_suffixes_none_is_chosen(maps):
    for path in list(maps.iterdir()):
        shutil.copy(path, path.with_name(f"{path.stem}_a.png"))
        path.rename(path.with_name(f"{path.stem}_b.png"))
    with pytest.raises(InputError, match="8 of 8 maps are missing"):
        score_folder(maps)


def test_cut_outs_are_scored_by_their_alpha(maps):
    for path in maps.iterdir():
        alpha = Image.open(path).convert("L")
        photo = Image.effect_noise(alpha.size, 90).convert("RGB")
        photo.putalpha(alpha)
        photo.save(path)
    assert score_folder(maps).score.result() == pytest.approx(plain(), abs=1e-9)


@pytest.mark.parametrize("fault", ["is a colour picture", "turn it"])
def test_a_map_in_colours_or_on_its_side_stops_with_its_name(maps, fault):
    grey = cv2.imread(str(maps / "0003.png"), 0)
    assert grey.shape[0] != grey.shape[1]
    wrong = cv2.applyColorMap(grey, cv2.COLORMAP_JET) if "colour" in fault else grey.T
    cv2.imwrite(str(maps / "0003.png"), wrong)
    with pytest.raises(InputError, match=rf"1 of 8 maps .*maps/0003\.png: .*{fault}"):
        score_folder(maps)
