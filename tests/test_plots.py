"""SCFNet/scoring/plots.py: figures of what is known, and one line if matplotlib is not there."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from SCFNet.errors import InputError
from SCFNet.metrics import PaperScore
from SCFNet.photos.reading import read_image
from SCFNet.scoring import plots
from SCFNet.scoring.tasks import Result


@pytest.mark.parametrize("plot", [plots.plot_precision_recall, plots.plot_f_thresholds])
def test_curves_have_a_panel_for_each_set(tmp_path, plot):
    score = PaperScore()
    score.add(np.array([[0, 255, 90]], np.uint8), np.array([[0, 255, 255]], np.uint8))
    one, two = (
        [Result(method, data, score, [], [], []) for data in sets for method in ("m", "方法")]
        for sets in ("S", "ST")
    )
    plot(one, tmp_path / "one.png")
    plot(two, tmp_path / "two.png")
    narrow, wide = read_image(tmp_path / "one.png"), read_image(tmp_path / "two.png")
    assert wide.shape == (narrow.shape[0], 2 * narrow.shape[1], 3)
    assert narrow.std() > 5 and wide.std() > 5


@pytest.mark.parametrize("plot", [plots.plot_figure1, plots.plot_figure3])
def test_a_figure_leaves_out_what_is_not_known(tmp_path, plot):
    rows = [
        {"method": "蒸馏", "F": 0.9, "params": 44e6, "flops": "?", "fps": 3, "maccs": None},
        {"model": "U2Net", "F": 0.8, "params": 44e6, "fps": 0},
        {"model": "x"},
        {"F": 0.8, "params": float("nan")},
    ]
    plot(rows, tmp_path / "f.png")
    assert read_image(tmp_path / "f.png").std() > 5
    plot(rows[3:], tmp_path / "none-known.png")
    for rows in ([{"model": "M3_0.5", "params": 1}], [{"model": "x", "F": "high"}]):
        with pytest.raises(InputError, match="no row of the results has an F"):
            plot(rows, tmp_path / "g.png")


@pytest.mark.parametrize("font", ["Noto Sans CJK SC", "Microsoft YaHei", "PingFang SC", "SimHei"])
def test_a_font_with_chinese_characters_is_taken_if_there_is_one(monkeypatch, font):
    known = [SimpleNamespace(name=name) for name in ("DejaVu Sans", font, "Arial")]
    monkeypatch.setattr("matplotlib.font_manager.fontManager.ttflist", known)
    assert plots.fonts() == ["DejaVu Sans", font]


def test_without_matplotlib_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match="pip install matplotlib"):
        plots.plot_figure3([{"model": "U2Net", "F": 0.9, "params": 44e6}], tmp_path / "f.png")
