"""tools/eval.py: the table, the files it writes, what stops it, and that no score is lost."""

import csv
import json
import runpy
import shutil
import sys
from unittest import mock

import cv2
import pytest

from tests.conftest import ROOT, fault_of, run_here, run_tool

DATA = ROOT / "tests" / "data"
REFERENCE = DATA / "metrics_seed11"
SCORE = ("--masks", REFERENCE / "gt", "--maps", f"good={REFERENCE / 'maps'}")


def run_eval(*arguments):
    with mock.patch("sys.path", [*sys.path, str(ROOT / "tools")]):
        path = str(ROOT / "tools" / "eval.py")
        return run_here(lambda: runpy.run_path(path, run_name="__main__"), *arguments)


def cells(line):
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_one_set_gives_a_table_and_all_files(tmp_path):
    (tmp_path / "costs.json").write_text('{"good": {"params": 1e6, "flops": 2e9}}')
    done = run_eval(
        *(*SCORE, f"mask={REFERENCE / 'gt'}", "--costs", tmp_path / "costs.json"),
        *("--json", tmp_path / "s.json", "--csv", tmp_path / "s.csv", "--plot", tmp_path / "plots"),
        *("--per-image", tmp_path / "images.csv", "--latex", tmp_path / "table.tex"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    header, _, good, mask = done.stdout.splitlines()[:4]
    assert cells(header)[3:] == [f"metrics_seed11 {letter}" for letter in ("M ↓", "F ↑", "E ↑")]
    assert cells(good) == ["good", "1.00", "2.00", "_0.073_", "_0.762_", "_0.921_"]
    assert cells(mask)[:4] == ["mask", "-", "-", "**0.000**"]

    expected = json.loads((DATA / "metrics_seed11.json").read_text())
    scores = json.loads((tmp_path / "s.json").read_text())["results"]
    assert scores[0]["values"] == pytest.approx(expected, abs=1e-7)
    rows = list(csv.DictReader((tmp_path / "s.csv").open()))
    assert [row["method"] for row in rows] == ["good", "mask"]
    images = list(csv.DictReader((tmp_path / "images.csv").open()))
    assert len(images) == 16
    errors = [float(row["MAE"]) for row in images if row["method"] == "good"]
    assert sum(errors) / 8 == pytest.approx(expected["MAE"], abs=1e-7)
    assert r"good & 1.00 & 2.00 & \textit{0.073}" in (tmp_path / "table.tex").read_text()
    for plot in ("precision_recall.png", "f_threshold.png"):
        assert cv2.imread(str(tmp_path / "plots" / plot)).std() > 5


def test_nothing_is_lost_if_one_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    files = "--json", tmp_path / "file" / "s.json", "--csv", tmp_path / "s.csv"
    done = run_eval(*SCORE, *files)
    assert done.returncode == 2
    assert "good" in done.stdout and (tmp_path / "s.csv").exists()
    assert done.stderr.startswith(f"error: {tmp_path}/file/s.json: cannot be written")


@pytest.mark.skipif(sys.platform != "linux", reason="needs names that are no text")
def test_names_that_are_no_text_are_escaped(tmp_path):
    for kind in ("gt", "maps"):
        (tmp_path / kind).mkdir()
        shutil.copy(REFERENCE / kind / "0000.png", tmp_path / kind / "caf\udce9.png")
    named = "--masks", tmp_path / "gt", "--maps", f"b\udce9st={tmp_path / 'maps'}"
    files = [tmp_path / name for name in ("i.csv", "s.json", "s.csv", "t.tex")]
    flags = zip(("--per-image", "--json", "--csv", "--latex"), files)
    done = run_tool("eval", *named, *(argument for pair in flags for argument in pair))
    assert (done.returncode, done.stderr) == (0, "")
    assert "| b?st" in done.stdout
    (row,) = csv.DictReader(files[0].open(encoding="utf-8"))
    assert (row["method"], row["image"]) == ("b\\udce9st", "caf\\udce9")
    assert json.loads(files[1].read_text("utf-8"))["results"][0]["images"] == 1
    assert f"b\\udce9st,{tmp_path.name}," in files[2].read_text("utf-8")


@pytest.mark.parametrize(
    "arguments, fault",
    [
        (["--masks", REFERENCE / "gt"], "give --maps or --weights"),
        (["--masks", REFERENCE / "gt", "--weights", "w"], "--weights needs --data"),
        ([*SCORE, "--size", "64"], "--size needs --weights"),
        ([*SCORE, "--grid", "g.png"], "--grid needs --data"),
        ([*SCORE, "--published", "--protocol", "pysod"], "are of --protocol paper"),
        ([*SCORE, "--metrics", "Max-E"], "the protocol paper has no such measure"),
        (["--masks", "nowhere", "--maps", "x"], "nowhere: no such folder"),
        (["--masks", REFERENCE / "gt", "--maps", "a=x", "a=y"], "named twice"),
        (["--data", REFERENCE.parent, "--maps", "x"], "has no folder mask/"),
        ([*SCORE, "--costs", "nowhere.json"], "nowhere.json: cannot be read"),
    ],
)
def test_wrong_usage_is_one_line(arguments, fault):
    assert fault in fault_of("eval", *arguments)
