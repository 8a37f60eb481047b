"""tools/benchmark.py and SCFNet/benchmarks: that like is compared with like, and figure 3 drawn."""

import json

import cv2
import pytest

from SCFNet.benchmarks import deploy, metrics, models, processes
from SCFNet.benchmarks.timing import median_computing, time_in_turns
from SCFNet.errors import InputError
from SCFNet.metrics import PaperScore, precision_recall, scale
from SCFNet.scoring.report import read_rows
from tests.conftest import run_tool


class Clock:
    """A clock that stands still but for what the ways that it times take."""

    def __init__(self):
        self.now, self.calls = 0.0, []

    def __call__(self):
        return self.now

    def way(self, name, seconds):
        def call():
            self.calls.append(name)
            self.now += seconds

        return call


def test_ways_take_turns():
    clock = Clock()
    ways = {"slow": clock.way("slow", 3), "fast": clock.way("fast", 1)}
    times = time_in_turns(ways, rounds=2, clock=clock)
    assert clock.calls == ["slow", "fast", "slow", "fast"]
    assert {name: list(seconds) for name, seconds in times.items()} == {
        "slow": [3, 3],
        "fast": [1, 1],
    }
    clock.calls.clear()
    times = time_in_turns(ways, rounds=1, repeats=2, warm_up=True, clock=clock)
    assert clock.calls == ["slow"] * 3 + ["fast"] * 3
    assert [len(seconds) for seconds in times.values()] == [2, 2]


def test_a_median_ignores_a_slow_call(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("SCFNet.benchmarks.timing.time.process_time", clock)
    durations = iter([9, 1, 9, 50, 9, 1])

    def uneven():
        clock.now += next(durations)

    assert list(median_computing(uneven, clock.way("even", 2), rounds=3)) == [1, 2]


def test_calls_are_timed_after_a_warm_up():
    calls = []
    times = models.seconds_per_call(lambda: calls.append(1), seconds=0)
    assert len(times) == 3
    assert len(calls) == 4


@pytest.mark.slow
def test_a_row_has_all_numbers():
    row = models.measure("M3_0.5", "static", "cpu", batches=[2], seconds=0.01)
    assert (row["model"], row["engine"], row["size"]) == ("M3_0.5", "static", 352)
    assert row["device"] == "cpu"
    assert 0 < row["latency_ms"] <= row["p95_ms"]
    assert row["fps"] > 0 and row["images/s, batch 2"] > 0
    assert row["peak_mb"] > 50
    json.dumps(row)


def test_the_obvious_way_computes_what_ours_does():
    pred, gt = metrics.example(60, 80)
    obvious, ours = metrics.obvious_way(pred, gt), PaperScore().add(pred, gt)
    for name in ("MAE", "E-measure", "Wgt-F"):
        assert obvious[name] == pytest.approx(ours[name], abs=1e-6)
    assert obvious["F"].max() == pytest.approx(ours["Max-F"], abs=1e-9)
    precision, recall = precision_recall(scale(pred), gt > 0)
    assert obvious["F"][100] == pytest.approx(
        1.3 * precision[100] * recall[100] / (0.3 * precision[100] + recall[100])
    )


@pytest.mark.slow
def test_ways_and_workers_are_compared():
    rows = metrics.compare(rounds=1)
    assert rows[0]["share"] == 1
    assert all(row["ms an image"] > 0 for row in rows)
    assert [row["workers"] for row in metrics.scale_workers(images=4)] == [1, 2]


@pytest.mark.slow
def test_one_process_and_two_are_compared():
    one, two = processes.compare(epochs=2, photos=16)
    assert (one["processes"], two["processes"]) == (1, 2)
    assert one["speed-up"] == 1 and two["speed-up"] > 0


@pytest.mark.slow
def test_deployment_is_compared(tmp_path):
    photos = deploy.make_photos(tmp_path / "photos", 3)
    rows = deploy.measure_all(photos, rounds=1)
    assert [row["what"].split(",")[0] for row in rows] == [
        "network",
        "predict.py one.jpg",
        "folder of 3 photos",
        "folder of 3 photos",
        "peak memory of that run",
    ]
    assert all(row["ratio"] > 0 for row in rows)


def test_a_folder_without_photos_is_refused(tmp_path):
    with pytest.raises(InputError, match="no image files"):
        deploy.measure_all(tmp_path)


@pytest.mark.slow
def test_scores_become_figure3(tmp_path):
    scores, results = tmp_path / "scores.json", tmp_path / "results.json"
    rows = [{"model": "M3_0.5", "values": {"Mean-F": f}} for f in (0.8, 0.9)]
    rows.append({"model": None, "values": {"Mean-F": 0.1}})
    scores.write_text(json.dumps({"protocol": "paper", "results": rows}))
    arguments = ["--models", "M3_0.5", "--device", "cpu", "--seconds", 0.01, "--batches", 1]
    done = run_tool("benchmark", *arguments, "--scores", scores, "--json", results)
    assert done.returncode == 0, done.stderr
    assert "| 800,154 | 253,194,747 |" in done.stdout
    (row,) = read_rows(results)
    assert row["F"] == pytest.approx(0.85)
    done = run_tool("benchmark", "--plot", results)
    assert done.returncode == 0, done.stderr
    assert cv2.imread(str(tmp_path / "results.png")).std() > 5


@pytest.mark.parametrize(
    "arguments, fault",
    [
        (["--batches", 0], "--batches must be at least 1"),
        (
            ["--plot", "nowhere.json"],
            "error: nowhere.json: cannot be read: No such file",
        ),
        (["--plot", "rows.png"], "the figure would replace it"),
        pytest.param(
            ["--models", "M3_0.5", "--device", "fpga"],
            "error: --device: 'fpga' is none of auto, cpu, gpu and gpu:N",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_wrong_usage_is_one_line(arguments, fault):
    done = run_tool("benchmark", *arguments)
    assert done.returncode == 2
    assert fault in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
