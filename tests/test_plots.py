"""SCFNet/scoring/plots.py: figures of what is known, and one line if matplotlib is not there."""

import sys

import cv2
import numpy as np
import pytest

from SCFNet.errors import InputError
from SCFNet.metrics import PaperScore
from SCFNet.scoring.plots import plot_f_thresholds, plot_figure3, plot_precision_recall
from SCFNet.scoring.tasks import Result


@pytest.mark.parametrize("plot", [plot_precision_recall, plot_f_thresholds])
def test_curves_have_a_panel_for_each_set(tmp_path, plot):
    score = PaperScore()
    score.add(np.array([[0, 255, 90]], np.uint8), np.array([[0, 255, 255]], np.uint8))
    one, two = (
        [Result(method, data, score, [], [], []) for data in sets for method in "mn"]
        for sets in ("S", "ST")
    )
    plot(one, tmp_path / "one.png")
    plot(two, tmp_path / "two.png")
    narrow, wide = (cv2.imread(str(tmp_path / name)) for name in ("one.png", "two.png"))
    assert wide.shape[:2] == (narrow.shape[0], 2 * narrow.shape[1])
    assert narrow.std() > 5 and wide.std() > 5


def test_figure3_leaves_out_what_is_not_known(tmp_path):
    rows = [
        {"model": "U2Net", "F": 0.9, "params": 44e6, "flops": "?", "fps": 0, "maccs": None},
        {"model": "x"},
        {"F": 0.8, "params": float("nan")},
    ]
    plot_figure3(rows, tmp_path / "f.png")
    assert cv2.imread(str(tmp_path / "f.png")).std() > 5
    for rows in ([{"model": "M3_0.5", "params": 1}], [{"model": "x", "F": "high"}]):
        with pytest.raises(InputError, match="no row of the results has an F"):
            plot_figure3(rows, tmp_path / "g.png")


def test_without_matplotlib_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match="pip install matplotlib"):
        plot_figure3([{"model": "U2Net", "F": 0.9, "params": 44e6}], tmp_path / "f.png")
