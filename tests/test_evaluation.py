"""SCFNet/scoring/evaluation.py: the sets and methods that a command line names."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from datasets.maps import read_map
from SCFNet.errors import InputError
from SCFNet.photos.reading import read_image
from SCFNet.predictor import Predictor
from SCFNet.scoring.evaluation import Sources, find_sets, find_tasks, named_path
from SCFNet.scoring.tasks import score_tasks
from tests.conftest import write_pairs

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


def test_two_of_a_name_are_refused():
    maps = [f"a={REFERENCE / 'maps'}", f"a={REFERENCE / 'gt'}"]
    for named in ({"maps": maps}, {"maps": maps[:1], "weights": ["a=a.pdparams"]}):
        with pytest.raises(InputError, match="a: is named twice"):
            score_methods(Sources(masks=REFERENCE / "gt", **named))


def test_sets_of_one_name_are_named_by_what_differs(tmp_path):
    names = ["x/SOD/test", "y/SOD/test", "ECSSD"]
    paths = [tmp_path / name for name in names]
    for name in names:
        shutil.copytree(REFERENCE / "gt", tmp_path / name / "mask")
        shutil.copytree(REFERENCE / "maps", tmp_path / "net" / name)
    assert list(find_sets(REFERENCE / "gt", [])) == ["metrics_seed11"]
    assert list(find_sets(None, paths)) == names
    assert list(find_sets(None, paths[1:])) == ["test", "ECSSD"]
    with pytest.raises(InputError, match="is named twice"):
        find_sets(None, [paths[0], paths[0]])
    results, _ = score_methods(Sources(data=paths, maps=[str(tmp_path / "net")]))
    assert [result.data for result in results] == names


def test_many_sets_are_subfolders_of_each_method(tmp_path):
    for name in ("A", "B"):
        shutil.copytree(REFERENCE / "gt", tmp_path / "data" / name / "mask")
        shutil.copytree(REFERENCE / "maps", tmp_path / "net" / name)
    (tmp_path / "data" / "B" / "test.txt").write_text("0001\n0002\n")
    folders = [tmp_path / "data" / name for name in "AB"]
    sources = Sources(data=folders, maps=[str(tmp_path / "net")])
    with pytest.raises(InputError, match=r"6 maps have no mask \(0000, 0003, 0004, 0005, 0006, "):
        score_methods(sources)
    results, costs = score_methods(sources, allow_missing=True)
    found = [(result.method, result.data, result.score.count) for result in results]
    assert found == [("net", "A", 8), ("net", "B", 2)]
    assert costs == {}


@pytest.mark.slow
def test_checkpoints_predict_and_score_in_one_go(tmp_path):
    data, file = write_pairs(tmp_path / "S", 2), DATA / "release_M3_0.5.pdparams"
    sources = Sources(
        data=[data], weights=[f"ours={file}"], device="cpu", save_maps=tmp_path / "maps"
    )
    (result,), costs = score_methods(sources)
    assert (costs["ours"].params, costs["ours"].model) == (800_154, "M3_0.5")
    saved = Sources(data=[data], maps=[str(tmp_path / "maps" / "ours")])
    (again,), _ = score_methods(saved)
    assert again.score.result() == result.score.result()
    other = sources._replace(size=64, align_corners=True, save_maps=None)
    (small,), costs = score_methods(other)
    assert small.score.result()["MAE"] != result.score.result()["MAE"]
    assert 20 * costs["ours"].flops < 253_194_747
    photo = read_image(data / "image" / "0.jpg")
    expected = Predictor(file, device="cpu", size=64)(photo, True)
    with find_tasks(other) as (tasks, _):
        pair = tasks[0].pairs[0]
        np.testing.assert_allclose(read_map(pair.map) / 255, expected, atol=0.51 / 255)
