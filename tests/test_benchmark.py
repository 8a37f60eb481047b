"""tools/benchmark.py: that it counts right, times what it says, and draws figure 3."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from datasets.files import InputError
from datasets.masks import read_grey
from SCFNet.benchmarks import processes as bench_processes
from SCFNet.benchmarks.metrics import compare, example, obvious_way, scale_workers
from SCFNet.benchmarks.models import measure, seconds_per_call
from SCFNet.metrics import PaperScore, precision_recall, scale
from SCFNet.net import SCFNet
from SCFNet.scoring.cost import cost
from SCFNet.scoring.plots import plot_figure3
from SCFNet.scoring.report import read_f, read_rows

ROOT = Path(__file__).resolve().parents[1]


def run_tool(*arguments):
    command = [sys.executable, str(ROOT / "tools" / "benchmark.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    "model, params, flops",
    [
        ("M3_0.5", 800_154, 253_194_747),
        ("R50", 26_148_420, 13_148_501_421),
        ("ST", 88_158_980, 46_747_600_848),
    ],
)
def test_params_and_flops_are_the_papers(model, params, flops):
    counted = cost(SCFNet(backbone=model))
    assert (counted["params"], counted["flops"]) == (params, flops)
    assert 0.9 * flops < counted["maccs"] < flops


def test_counting_leaves_the_network_as_it_was():
    net = SCFNet(backbone="M3_0.5")
    keys = list(net.state_dict())
    first = cost(net)
    assert cost(net) == first
    assert list(net.state_dict()) == keys


def test_a_row_has_all_numbers():
    row = measure("M3_0.5", "static", "cpu", batches=[2], seconds=0.01)
    assert (row["model"], row["engine"], row["size"]) == ("M3_0.5", "static", 352)
    assert row["device"] == "cpu"
    assert 1 < row["latency_ms"] <= row["p95_ms"]
    assert 0 < row["fps"] < 1000
    assert row["peak_mb"] > 50
    assert row["images/s, batch 2"] > 0.1
    json.dumps(row)


def test_calls_are_timed_after_a_warm_up():
    calls = []
    times = seconds_per_call(lambda: calls.append(1), seconds=0)
    assert len(times) == 3
    assert len(calls) == 4


def test_the_obvious_way_computes_what_ours_does():
    saliency_map, mask = example(60, 80)
    obvious, ours = obvious_way(saliency_map, mask), PaperScore().add(saliency_map, mask)
    for name in ("MAE", "E-measure", "Wgt-F"):
        assert obvious[name] == pytest.approx(ours[name], abs=1e-6)
    assert obvious["F"].max() == pytest.approx(ours["Max-F"], abs=1e-9)
    precision, recall = precision_recall(scale(saliency_map), mask > 0)
    assert obvious["F"][100] == pytest.approx(
        1.3 * precision[100] * recall[100] / (0.3 * precision[100] + recall[100])
    )


def test_ways_and_workers_are_compared():
    rows = compare(rounds=1)
    assert rows[0]["share"] == 1
    assert all(row["ms an image"] > 0 for row in rows)
    assert [row["workers"] for row in scale_workers(images=4)] == [1, 2]


def test_one_process_and_two_are_compared():
    one, two = bench_processes.compare(epochs=2, photos=16)
    assert (one["processes"], two["processes"]) == (1, 2)
    assert one["speed-up"] == 1 and two["speed-up"] > 0


def test_from_scores_to_figure3(tmp_path):
    scores, results = tmp_path / "scores.json", tmp_path / "results.json"
    rows = [{"model": "M3_0.5", "values": {"Mean-F": f}} for f in (0.8, 0.9)]
    rows.append({"model": None, "values": {"Mean-F": 0.1}})
    scores.write_text(json.dumps({"protocol": "paper", "results": rows}))
    assert read_f(scores) == {"M3_0.5": pytest.approx(0.85)}
    arguments = ["--models", "M3_0.5", "--device", "cpu", "--seconds", 0.01, "--batches", 1]
    done = run_tool(*arguments, "--scores", scores, "--json", results)
    assert done.returncode == 0, done.stderr
    assert "| 800,154 | 253,194,747 |" in done.stdout
    (row,) = read_rows(results)
    assert row["F"] == pytest.approx(0.85)
    done = run_tool("--plot", results)
    assert done.returncode == 0, done.stderr
    assert read_grey(tmp_path / "results.png").std() > 5


def test_figure3_leaves_out_what_is_not_known(tmp_path):
    plot_figure3([{"model": "U2Net", "F": 0.9, "params": 44e6}, {"model": "x"}], tmp_path / "f.png")
    assert (tmp_path / "f.png").stat().st_size > 1000
    with pytest.raises(InputError, match="no row of the results has an F"):
        plot_figure3([{"model": "M3_0.5", "params": 1}], tmp_path / "g.png")


@pytest.mark.parametrize("text", ["{", '{"a": 1}', "[1]"])
def test_other_files_are_no_results(tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    for read in (read_f, read_rows):
        with pytest.raises(InputError, match=r"r\.json: is not"):
            read(tmp_path / "r.json")


def test_a_missing_results_file_is_one_line(tmp_path):
    done = run_tool("--plot", tmp_path / "r.json")
    assert done.returncode == 2
    assert (
        done.stderr == f"error: {tmp_path / 'r.json'}: cannot be read: No such file or directory\n"
    )


def test_wrong_usage_is_one_line():
    assert "at least 1" in run_tool("--batches", 0).stderr
    done = run_tool("--models", "M3_0.5", "--device", "fpga")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: --device fpga")
    assert "Traceback" not in done.stderr
