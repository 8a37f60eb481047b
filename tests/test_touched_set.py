"""A set that CVAT wrote, Jupyter and a NAS have touched: trained on, distilled on, scored on."""

import shutil

import numpy as np
import pytest
from PIL import Image

from SCFNet import distill, engine
from SCFNet.scoring.evaluation import Sources, find_tasks
from SCFNet.scoring.tasks import score_tasks
from SCFNet.training import state
from tests.conftest import distill_recipe, recipe, write_pairs

LABELS = np.array([[0, 0, 0], [61, 61, 245], [250, 50, 83]], "uint8")  # colours of CVAT


@pytest.mark.slow
def test_a_touched_set_goes_through_all_three(tmp_path, capsys):
    data = write_pairs(tmp_path / "set", 5)
    photos, masks = data / "JPEGImages", data / "SegmentationClass"
    (data / "image").rename(photos)
    (data / "mask").rename(masks)
    (masks / "4.png").unlink()
    for path in masks.iterdir():
        mask = np.array(Image.open(path)) > 0
        Image.fromarray(LABELS[mask * np.where(np.arange(72) % 40 < 20, 1, 2)]).save(path)
    (photos / "3.jpg").rename(photos / "cafe\u0301.jpg")  # the same name in both forms
    (masks / "3.png").rename(masks / "caf\u00e9.png")
    for path in (photos / "1.jpg", masks / "1.png"):
        for name in (".ipynb_checkpoints/1-checkpoint", "@eaDir/1/SYNOPHOTO_THUMB_M"):
            copy = path.parent / f"{name}{path.suffix}"
            copy.parent.mkdir(parents=True)
            shutil.copy(path, copy)

    taken = f"{data}: 4 pairs of JPEGImages/ and SegmentationClass/"
    taught = {"data": data, "epochs": 1, "sizes": 64, "batch_size": 2}
    assert engine.train(recipe(**taught, output=tmp_path / "fs")) == 0
    printed = capsys.readouterr().out
    assert printed.count(f"{taken}, 1 photos without a mask are left out\n") == 1
    assert "epoch 1/1: step 2," in printed

    knobs = {**taught, "teacher": tmp_path / "fs" / state.LAST, "cache_labels": tmp_path / "maps"}
    assert distill.distill(distill_recipe(**knobs, output=tmp_path / "kd")) == 0
    maps = sorted(path.stem for path in (tmp_path / "maps").glob("*.png"))
    assert maps == ["0", "1", "2", "4", "caf\u00e9"]

    weights = [f"KD={tmp_path / 'kd' / state.LAST}"]
    with find_tasks(Sources(data=[data], weights=weights, device="cpu")) as (tasks, _):
        (result,) = score_tasks(tasks, "paper")
    assert capsys.readouterr().err.count(taken) == 1
    assert (result.data, result.score.count, result.missing, result.extra) == ("set", 4, [], [])
    assert 0 < result.score.result()["MAE"] < 1
