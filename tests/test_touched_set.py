"""A set that CVAT wrote, Jupyter and a NAS have touched: trained on, distilled on, scored on."""

import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image

from SCFNet import distill, engine
from SCFNet.scoring.evaluation import Sources, find_tasks
from SCFNet.scoring.tasks import score_tasks
from SCFNet.training import state
from tests.conftest import distill_recipe, recipe, write_pairs

STEMS = ["1", "2", "3", "café"]
LABELS = np.array([[0, 0, 0], [61, 61, 245], [250, 50, 83]], "uint8")  # colours of CVAT


def touch(root):
    """Write photos, one of them without labels, and masks in colours; names in both forms."""
    pairs = write_pairs(root / "pairs", 5)
    for kind in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / "set" / kind).mkdir(parents=True)
    for i, stem in enumerate([*STEMS, "unlabelled"]):
        photo = unicodedata.normalize("NFD", stem)
        shutil.copy(pairs / "image" / f"{i}.jpg", root / "set" / "JPEGImages" / f"{photo}.jpg")
        if stem in STEMS:
            mask = np.array(Image.open(pairs / "mask" / f"{i}.png")) > 0
            labels = mask * np.where(np.arange(mask.shape[1]) % 40 < 20, 1, 2)
            colours = Image.fromarray(LABELS[labels])
            colours.save(root / "set" / "SegmentationClass" / f"{stem}.png")
    for folder, left in (("JPEGImages", "1.jpg"), ("SegmentationClass", "1.png")):
        for name in (".ipynb_checkpoints/1-checkpoint", "@eaDir/1/SYNOPHOTO_THUMB_M"):
            copy = root / "set" / folder / f"{name}{left[-4:]}"
            copy.parent.mkdir(parents=True)
            shutil.copy(root / "set" / folder / left, copy)
    return root / "set"


@pytest.mark.slow
def test_a_touched_set_goes_through_all_three(tmp_path, capsys):
    data = touch(tmp_path)
    taken = f"{data}: 4 pairs of JPEGImages/ and SegmentationClass/"
    taught = {"data": data, "epochs": 1, "sizes": 64, "batch_size": 2}
    assert engine.train(recipe(**taught, output=tmp_path / "fs")) == 0
    printed = capsys.readouterr().out
    assert printed.count(f"{taken}, 1 photos without a mask are left out\n") == 1
    assert "epoch 1/1: step 2," in printed

    teacher = tmp_path / "fs" / state.LAST
    maps = tmp_path / "maps"
    knobs = {**taught, "output": tmp_path / "kd", "teacher": teacher, "cache_labels": maps}
    assert distill.distill(distill_recipe(**knobs)) == 0
    assert sorted(path.stem for path in maps.glob("*.png")) == [*STEMS, "unlabelled"]

    student = str(tmp_path / "kd" / state.LAST)
    with find_tasks(Sources(data=[data], weights=[f"KD={student}"], device="cpu")) as (tasks, _):
        (result,) = score_tasks(tasks, "paper")
    assert capsys.readouterr().err.count(taken) == 1
    assert (result.data, result.score.count, result.missing, result.extra) == ("set", 4, [], [])
    assert 0 < result.score.result()["MAE"] < 1
