"""tools/eval.py: the table, the files it writes, what stops it, and that workers change nothing."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from datasets.files import InputError
from datasets.masks import read_grey
from datasets.sod import list_folder
from SCFNet.metrics import PROTOCOLS
from SCFNet.scoring.cost import Cost
from SCFNet.scoring.evaluation import named_path
from SCFNet.scoring.report import paper_table, read_costs
from SCFNet.scoring.tasks import CHUNK, Pair, Result, Task, pair_maps, score_tasks

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "tests" / "data"
REFERENCE = DATA / "metrics_seed11"


def run_tool(*arguments):
    command = [sys.executable, str(ROOT / "tools" / "eval.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def maps(tmp_path):
    """A copy of the reference's maps, to spoil."""
    return Path(shutil.copytree(REFERENCE / "maps", tmp_path / "maps"))


def score_folder(maps, protocol="paper", workers=1, allow_missing=False, per_image=None):
    task = pair_maps("method", "set", maps, list_folder(REFERENCE / "gt"), allow_missing)
    return score_tasks([task], protocol, workers, allow_missing, per_image)[0]


def test_one_set_and_many_methods_give_a_table_and_all_files(tmp_path, maps):
    for path in (tmp_path / "maps").iterdir():
        Image.fromarray(255 - read_grey(path)).save(path)
    done = run_tool(
        *("--masks", REFERENCE / "gt", "--maps", f"good={REFERENCE / 'maps'}", f"bad={maps}"),
        *("--json", tmp_path / "s.json", "--csv", tmp_path / "s.csv", "--plot", tmp_path / "plots"),
        *("--per-image", tmp_path / "images.csv", "--costs", tmp_path / "costs.json"),
    )
    assert done.returncode == 2
    assert "costs.json" in done.stderr
    (tmp_path / "costs.json").write_text('{"good": {"params": 1e6, "flops": 2e9}}')
    done = run_tool(
        *("--masks", REFERENCE / "gt", "--maps", f"good={REFERENCE / 'maps'}", f"bad={maps}"),
        *("--json", tmp_path / "s.json", "--csv", tmp_path / "s.csv", "--plot", tmp_path / "plots"),
        *("--per-image", tmp_path / "images.csv", "--costs", tmp_path / "costs.json"),
    )
    assert done.returncode == 0, done.stderr
    name = "metrics_seed11"
    header, _, good, bad = done.stdout.splitlines()[:4]
    assert [cell.strip() for cell in header.split("|")[1:-1]] == [
        *("Method", "Params (M)", "FLOPs (G)", f"{name} M ↓", f"{name} F ↑", f"{name} E ↑")
    ]
    cells = [cell.strip() for cell in good.split("|")[1:-1]]
    assert cells == ["good", "1.00", "2.00", "**0.073**", "**0.762**", "**0.921**"]
    assert bad.split("|")[2].strip() == "-"

    expected = json.loads((DATA / "metrics_seed11.json").read_text())
    scores = json.loads((tmp_path / "s.json").read_text())["results"]
    assert scores[0]["values"] == pytest.approx(expected, abs=1e-6)
    assert len(scores[0]["curves"]["f"]) == 256
    rows = list(csv.DictReader((tmp_path / "s.csv").open()))
    assert [row["method"] for row in rows] == ["good", "bad"]
    assert float(rows[0]["Wgt-F"]) == pytest.approx(expected["Wgt-F"], abs=1e-6)
    images = list(csv.DictReader((tmp_path / "images.csv").open()))
    assert len(images) == 16
    mean = np.mean([float(row["MAE"]) for row in images if row["method"] == "good"])
    assert mean == pytest.approx(expected["MAE"], abs=1e-6)
    for plot in ("precision_recall.png", "f_threshold.png"):
        assert read_grey(tmp_path / "plots" / plot).std() > 5


def test_many_sets_are_subfolders_of_each_method(tmp_path):
    for name in ("A", "B"):
        shutil.copytree(REFERENCE / "gt", tmp_path / "data" / name / "mask")
        shutil.copytree(REFERENCE / "maps", tmp_path / "net" / name)
    (tmp_path / "data" / "B" / "test.txt").write_text("0001\n0002\n")
    arguments = ["--data", tmp_path / "data/A", tmp_path / "data/B", "--maps", tmp_path / "net"]
    done = run_tool(*arguments)
    assert done.returncode == 2
    assert "6 maps have no mask (0000, 0003, 0004, 0005, 0006, and 1 more)" in done.stderr
    done = run_tool(*arguments, "--allow-missing", "--workers", 2, "--protocol", "pysod")
    assert done.returncode == 0, done.stderr
    assert "| A M ↓ | A F ↑ | A E ↑ | B M ↓ | B F ↑ | B E ↑ |" in done.stdout
    assert "Adp-E; protocol `pysod`" in done.stdout


def test_weights_predict_and_score_in_one_go(tmp_path):
    for kind in ("image", "mask"):
        (tmp_path / "data" / "S" / kind).mkdir(parents=True)
    for stem in "ab":
        image = cv2.resize(cv2.imread(str(DATA / "chelsea.png")), (64, 48))
        cv2.imwrite(str(tmp_path / f"data/S/image/{stem}.jpg"), image)
        mask = cv2.circle(np.zeros((48, 64), np.uint8), (30, 20), 12, 255, -1)
        cv2.imwrite(str(tmp_path / f"data/S/mask/{stem}.png"), mask)
    arguments = ["--data", tmp_path / "data/S", "--device", "cpu"]
    weights = f"ours={DATA / 'release_M3_0.5.pdparams'}"
    done = run_tool(*arguments, "--weights", weights, "--save-maps", tmp_path / "maps")
    assert done.returncode == 0, done.stderr
    cells = [cell.strip() for cell in done.stdout.splitlines()[2].split("|")[1:-1]]
    assert cells[:3] == ["ours", "0.80", "0.25"]
    again = run_tool(*arguments, "--maps", tmp_path / "maps" / "ours")
    assert [c.strip() for c in again.stdout.splitlines()[2].split("|")[4:-1]] == cells[3:]


def test_missing_map_stops_with_count_and_names(maps):
    for stem in ("0002", "0005"):
        (maps / f"{stem}.png").unlink()
    with pytest.raises(InputError, match=r"2 of 8 maps are missing \(0002, 0005\)"):
        score_folder(maps)
    result = score_folder(maps, allow_missing=True)
    assert (result.score.count, result.missing) == (6, ["0002", "0005"])
    table = paper_table([result], "paper", {})
    assert "| method \\* |" in table
    assert "averaged over 6 of 8 images; 2 missing (0002, 0005)" in table


def test_extra_map_stops_with_count_and_names(maps):
    shutil.copy(maps / "0000.png", maps / "other.png")
    with pytest.raises(InputError, match=r"1 maps have no mask \(other\)"):
        score_folder(maps)
    result = score_folder(maps, allow_missing=True)
    assert result.score.count == 8
    assert "1 without mask (other)" in paper_table([result], "paper", {})


@pytest.mark.parametrize("workers", [1, 2])
def test_unreadable_map_stops_with_count_and_names(maps, workers):
    (maps / "0003.png").write_bytes((maps / "0003.png").read_bytes()[:500])
    (maps / "0004.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"2 of 8 maps cannot be scored \(0003, 0004\)"):
        score_folder(maps, workers=workers)
    result = score_folder(maps, workers=workers, allow_missing=True)
    assert (result.score.count, result.unreadable) == (6, ["0003", "0004"])
    assert "averaged over 6 of 8 images; 2 unreadable" in paper_table([result], "paper", {})


def test_nothing_to_average_stops_even_with_allow_missing(maps, tmp_path):
    masks = {"elsewhere": REFERENCE / "gt" / "0000.png"}
    with pytest.raises(InputError, match="1 of 1 maps are missing"):
        pair_maps("m", "s", maps, masks, allow_missing=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no image files"):
        pair_maps("m", "s", tmp_path / "empty", masks, allow_missing=True)
    with pytest.raises(InputError, match="no such folder"):
        pair_maps("m", "s", tmp_path / "nowhere", masks, allow_missing=True)


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


def test_deep_and_coloured_maps_read_as_grey(tmp_path):
    grey = read_grey(REFERENCE / "maps" / "0000.png")
    cv2.imwrite(str(tmp_path / "deep.png"), grey.astype(np.uint16) * 257)
    cv2.imwrite(str(tmp_path / "colour.png"), np.stack([grey] * 3, axis=-1))
    Image.fromarray(grey).convert("P").save(tmp_path / "palette.png")
    assert read_grey(tmp_path / "deep.png").dtype == np.uint16
    np.testing.assert_array_equal(read_grey(tmp_path / "deep.png"), grey.astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_grey(tmp_path / "colour.png"), grey)
    np.testing.assert_array_equal(read_grey(tmp_path / "palette.png"), grey)


class FixedScore(PROTOCOLS["paper"]):
    """A score with given values."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def result(self):
        return dict(zip(self.table, self.values))


def test_best_two_are_marked_as_printed():
    values = {"a": (0.1, 0.8, 0.7), "b": (0.2, 0.9, 0.7), "c": (0.10001, 0.7, 0.5)}
    results = [Result(name, "S", FixedScore(v), [], [], []) for name, v in values.items()]
    results.append(Result("d", "T", FixedScore((0.3, 0.3, 0.3)), [], [], []))
    lines = paper_table(results, "paper", {"a": Cost(8e5, None)}).splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:6]]
    assert rows[0] == ["a", "0.80", "-", "**0.100**", "_0.800_", "**0.700**", "-", "-", "-"]
    assert rows[1][3:6] == ["_0.200_", "**0.900**", "**0.700**"]
    assert rows[2][3:6] == ["**0.100**", "0.700", "_0.500_"]
    assert rows[3][3:7] == ["-", "-", "-", "**0.300**"]


def test_names_and_paths(tmp_path):
    assert named_path("U2Net=maps/a") == ("U2Net", Path("maps/a"))
    assert named_path("maps/a") == ("a", Path("maps/a"))
    (tmp_path / "x=y").mkdir()
    assert named_path(str(tmp_path / "x=y")) == ("x=y", tmp_path / "x=y")
    (tmp_path / "costs.json").write_text('{"U2Net": {"params": 1}}')
    with pytest.raises(InputError, match="is not JSON of"):
        read_costs(tmp_path / "costs.json")


@pytest.mark.parametrize(
    "arguments, fault",
    [
        (["--masks", REFERENCE / "gt"], "give --maps or --weights"),
        (["--masks", REFERENCE / "gt", "--weights", "w"], "--weights needs --data"),
        (["--masks", "nowhere", "--maps", "x"], "nowhere: no such folder"),
        (["--masks", REFERENCE / "gt", "--maps", "a=x", "a=y"], "named twice"),
        (["--data", REFERENCE.parent, "--maps", "x"], "has no folder mask/"),
    ],
)
def test_wrong_usage_is_one_line(arguments, fault):
    done = run_tool(*arguments)
    assert done.returncode == 2
    assert fault in done.stderr
    assert "Traceback" not in done.stderr
