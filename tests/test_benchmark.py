"""tools/benchmark.py and SCFNet/benchmarks: what is timed, a row for each, and figures 1 and 3."""

import json

import numpy as np
import pytest

from SCFNet.benchmarks import deploy, edges, metrics, models, training
from SCFNet.benchmarks.timing import seconds_per_call, time_in_turns
from SCFNet.errors import InputError
from SCFNet.photos.reading import read_image
from SCFNet.scoring.report import read_rows
from tests.conftest import fault_of, run_tool


class Clock:
    """A clock that stands still but for what the ways that it times take."""

    def __init__(self):
        self.now, self.calls = 0.0, []

    def __call__(self):
        return self.now

    def way(self, name, *seconds):
        durations = iter(seconds)

        def call():
            self.calls.append(name)
            self.now += next(durations)

        return call


def test_ways_take_turns_after_a_call_that_does_not_count():
    clock = Clock()
    ways = {"slow": clock.way("slow", 9, 3, 4), "fast": clock.way("fast", 9, 1, 2)}
    times = time_in_turns(ways, rounds=2, clock=clock)
    assert clock.calls == ["slow", "fast"] * 3
    found = {name: list(seconds) for name, seconds in times.items()}
    assert found == {"slow": [3, 4], "fast": [1, 2]}


def test_a_slow_call_is_timed_once_after_a_warm_up():
    calls = []
    assert len(seconds_per_call(lambda: calls.append(1), seconds=0)) == 1
    assert len(calls) == 2


def test_each_scored_method_has_a_row_also_if_two_are_of_one_network():
    scores = [
        {"method": name, "model": model, "F": f, "params": 8, "flops": None}
        for name, model, f in (("FS", "M3_0.5", 0.8), ("KD", "M3_0.5", 0.9), ("CPD", None, 0.7))
    ]
    rows = models.join(scores, [{"model": "M3_0.5", "engine": "dygraph", "flops": 5, "fps": 90.0}])
    found = [(row["method"], row["F"], row["fps"], row["flops"]) for row in rows]
    assert found == [("FS", 0.8, 90, 5), ("KD", 0.9, 90, 5), ("CPD", 0.7, None, None)]
    assert len({tuple(row) for row in rows}) == 1


@pytest.mark.slow
def test_a_row_has_all_numbers():
    row = models.measure("M3_0.5", "static", "cpu", batches=[1, 2], seconds=0.01)
    assert (row["model"], row["engine"], row["size"]) == ("M3_0.5", "static", 352)
    assert row["device"] == "cpu"
    assert 0 < row["latency_ms"] <= row["p95_ms"]
    assert row["fps"] == row["images/s, batch 1"] > 0 and row["images/s, batch 2"] > 0
    assert row["peak_mb"] > 50
    json.dumps(row)


@pytest.mark.slow
def test_scoring_and_training_are_timed():
    rows = metrics.compare(rounds=1)
    assert [row["protocol"] for row in rows if row["ms a map"] > 0] == ["paper", "pysod"]
    assert [row["workers"] for row in metrics.scale_workers(images=4)] == [1, 2]
    parts = training.parts(rounds=1, batch_sizes=[2, 4])
    assert len(parts) == 3 and all(row["ms an image"] > 0 for row in parts)
    runs = training.runs(epochs=2, photos=16, teacher="M3_0.5")
    assert len(runs) == 4 and all(row["images/s"] > 0 for row in runs)
    assert runs[0]["ratio"] == 1


@pytest.mark.slow
def test_deployment_is_timed(tmp_path):
    photos = deploy.make_photos(tmp_path / "photos", 3)
    network, photo, folder, memory = deploy.measure_all(photos, rounds=1)
    assert network["ratio"] > 0 and photo["ratio"] > 0
    assert folder["what"].startswith("folder of 3 photos") and folder["ONNX Runtime"] > 0
    assert memory["ONNX Runtime"] > 20


def test_a_folder_without_photos_is_refused(tmp_path):
    with pytest.raises(InputError, match="no image files"):
        deploy.measure_all(tmp_path)


@pytest.mark.slow
def test_scores_become_figures_1_and_3(tmp_path):
    scores, results = tmp_path / "scores.json", tmp_path / "results.json"
    cost = {"params": None, "flops": None}
    rows = [
        {"method": name, "model": model, "values": {"Mean-F": f}, **cost}
        for name, model, f in (("KD", "M3_0.5", 0.8), ("KD", "M3_0.5", 0.9), ("CPD", None, 0.1))
    ]
    scores.write_text(json.dumps({"protocol": "paper", "results": rows}))
    arguments = ["--device", "cpu", "--seconds", 0.01, "--batches", 1]
    done = run_tool("benchmark", *arguments, "--scores", scores, "--json", results)
    assert done.returncode == 0, done.stderr
    assert "1/1 M3_0.5, dygraph: " in done.stderr
    assert "| 800,154 | 253,194,747 |" in done.stdout
    first, second = read_rows(results)
    assert (first["method"], first["F"]) == ("KD", pytest.approx(0.85))
    assert (second["method"], second["fps"]) == ("CPD", None)
    done = run_tool("benchmark", "--plot", results)
    assert done.returncode == 0, done.stderr
    for name in ("results.png", "results-bubbles.png"):
        assert read_image(tmp_path / name).std() > 5


@pytest.mark.parametrize(
    "arguments, fault",
    [
        (["--batches", 0], "--batches must be at least 1"),
        (["--plot", "nowhere.json"], "nowhere.json: cannot be read: No such file"),
        (["--plot", "rows.png"], "the figure would replace it"),
    ],
)
def test_wrong_usage_is_one_line(arguments, fault):
    assert fault in fault_of("benchmark", *arguments)


def test_the_roughness_of_an_edge_is_that_of_its_short_waves():
    """A disc of 100 cells around, in waves of five cells, lies outside and is flattened."""
    y, x = np.mgrid[:1000, :1000]
    turn, cell = np.arctan2(y - 499.5, x - 499.5), 2 * np.pi * 300 / 100
    outline = 500 + 500j + 300 * np.exp(2j * np.pi * np.arange(1024) / 1024)

    def measure(height, waves, offset=0.0):
        radius = 300 + cell * (offset + height * np.sin(waves * turn))
        gap = radius - np.hypot(y - 499.5, x - 499.5)
        return edges.roughness((gap * 64 + 128).clip(0, 255).astype("uint8"), outline, cell)

    assert measure(0, 20) == pytest.approx((0, 0), abs=0.01)
    assert measure(0.2, 20) == pytest.approx((0.2 / 2**0.5,) * 2, abs=0.01)
    assert measure(0.2, 2, offset=0.5) == pytest.approx((0, (0.25 + 0.02) ** 0.5), abs=0.01)


@pytest.mark.slow
def test_cut_outs_of_each_network_are_measured_at_each_size():
    rows = edges.measure_all(shapes=1, sides=(600, 900))
    networks = [(row["network"], row["photo"]) for row in rows]
    assert networks == [(name, side) for name in ("small", "accurate") for side in (600, 900)]
    for row in rows:
        assert 0 < row["roughness, cells"] < 0.05 and row["error, cells"] < 0.5
        assert 0.1 < row["alpha of thin parts"] <= 1
