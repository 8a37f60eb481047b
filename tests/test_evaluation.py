"""SCFNet/scoring/evaluation.py: the sets and methods that a command line names."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.maps import read_map
from SCFNet.errors import InputError
from SCFNet.photos.reading import read_image
from SCFNet.predictor import Predictor
from SCFNet.scoring.evaluation import Sources, find_sets, find_tasks, named_path
from SCFNet.scoring.tasks import score_tasks

DATA = Path(__file__).parent / "data"
REFERENCE = DATA / "metrics_seed11"


def score_methods(sources, allow_missing=False):
    with find_tasks(sources, allow_missing) as (tasks, costs):
        return score_tasks(tasks, "paper", allow_missing=allow_missing), costs


def test_a_method_is_named_by_its_user_or_after_its_folder(tmp_path, monkeypatch):
    assert named_path("U2Net=maps/a") == ("U2Net", Path("maps/a"))
    assert named_path("maps/a") == ("a", Path("maps/a"))
    (tmp_path / "x=y").mkdir()
    assert named_path(str(tmp_path / "x=y")) == ("x=y", tmp_path / "x=y")
    monkeypatch.chdir(tmp_path)
    assert named_path(".") == (tmp_path.name, Path())
    for text in ("=maps/a", "U2Net="):
        with pytest.raises(InputError, match="write NAME=PATH"):
            named_path(text)


def test_a_set_is_named_after_the_folder_that_holds_its_masks():
    (name,) = find_sets(REFERENCE / "gt", [])
    assert name == "metrics_seed11"


def test_two_of_a_name_are_refused():
    maps = [f"a={REFERENCE / 'maps'}", f"a={REFERENCE / 'gt'}"]
    with pytest.raises(InputError, match="a: is named twice"):
        score_methods(Sources(masks=REFERENCE / "gt", maps=maps))
    with pytest.raises(InputError, match="a: is named twice"):
        score_methods(Sources(masks=REFERENCE / "gt", maps=maps[:1], weights=["a=a.pdparams"]))


def test_sets_of_one_name_are_named_by_what_differs(tmp_path):
    paths = [tmp_path / "x" / "SOD" / "test", tmp_path / "y" / "SOD" / "test", tmp_path / "ECSSD"]
    for path in (*paths, tmp_path / "net" / "ECSSD"):
        shutil.copytree(REFERENCE / "gt", path / "mask" if "net" not in path.parts else path)
    assert list(find_sets(None, paths)) == ["x/SOD/test", "y/SOD/test", "ECSSD"]
    assert list(find_sets(None, paths[1:])) == ["test", "ECSSD"]
    with pytest.raises(InputError, match="is named twice"):
        find_sets(None, [paths[0], paths[0]])
    shutil.copytree(REFERENCE / "maps", tmp_path / "net" / "x" / "SOD" / "test")
    shutil.copytree(REFERENCE / "maps", tmp_path / "net" / "y" / "SOD" / "test")
    results, _ = score_methods(Sources(data=paths, maps=[str(tmp_path / "net")]))
    assert [result.data for result in results] == ["x/SOD/test", "y/SOD/test", "ECSSD"]


def test_many_sets_are_subfolders_of_each_method(tmp_path):
    for name in ("A", "B"):
        shutil.copytree(REFERENCE / "gt", tmp_path / "data" / name / "mask")
        shutil.copytree(REFERENCE / "maps", tmp_path / "net" / name)
    (tmp_path / "data" / "B" / "test.txt").write_text("0001\n0002\n")
    sources = Sources(
        data=[tmp_path / "data" / name for name in "AB"], maps=[str(tmp_path / "net")]
    )
    with pytest.raises(InputError, match=r"6 maps have no mask \(0000, 0003, 0004, 0005, 0006, "):
        score_methods(sources)
    results, costs = score_methods(sources, allow_missing=True)
    found = [(result.method, result.data, result.score.count) for result in results]
    assert found == [("net", "A", 8), ("net", "B", 2)]
    assert costs == {}


@pytest.mark.slow
def test_checkpoints_predict_and_score_in_one_go(tmp_path):
    for kind in ("image", "mask"):
        (tmp_path / "S" / kind).mkdir(parents=True)
    for stem in "ab":
        image = cv2.resize(cv2.imread(str(DATA / "chelsea.png")), (64, 48))
        cv2.imwrite(str(tmp_path / f"S/image/{stem}.jpg"), image)
        mask = cv2.circle(np.zeros((48, 64), np.uint8), (30, 20), 12, 255, -1)
        cv2.imwrite(str(tmp_path / f"S/mask/{stem}.png"), mask)
    weights = [f"ours={DATA / 'release_M3_0.5.pdparams'}"]
    sources = Sources(
        data=[tmp_path / "S"], weights=weights, device="cpu", save_maps=tmp_path / "maps"
    )
    (result,), costs = score_methods(sources)
    assert (costs["ours"].params, costs["ours"].model) == (800_154, "M3_0.5")
    saved = Sources(data=[tmp_path / "S"], maps=[str(tmp_path / "maps" / "ours")])
    (again,), _ = score_methods(saved)
    assert again.score.result() == result.score.result()
    other = sources._replace(size=64, align_corners=True, save_maps=None)
    (small,), costs = score_methods(other)
    assert small.score.result()["MAE"] != result.score.result()["MAE"]
    assert 20 * costs["ours"].flops < 253_194_747
    photo = read_image(tmp_path / "S" / "image" / "a.jpg")
    expected = Predictor(DATA / "release_M3_0.5.pdparams", device="cpu", size=64)(photo, True)
    with find_tasks(other) as (tasks, _):
        pair = tasks[0].pairs[0]
        np.testing.assert_allclose(read_map(pair.map) / 255, expected, atol=0.51 / 255)
