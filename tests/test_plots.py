"""SCFNet/scoring/plots.py: figures of what is known, and one line if matplotlib is not there."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from datasets.sod import list_folder
from SCFNet.errors import InputError
from SCFNet.metrics import PaperScore
from SCFNet.photos.reading import read_image
from SCFNet.photos.writing import write_image
from SCFNet.scoring import plots
from SCFNet.scoring.tasks import Result, pair_maps


def test_curves_have_a_panel_for_each_set(tmp_path):
    score = PaperScore()
    score.add(np.array([[0, 255, 90]], np.uint8), np.array([[0, 255, 255]], np.uint8))
    for sets in ("S", "ST"):
        results = [Result(name, data, score, [], [], []) for data in sets for name in ("m", "方法")]
        plots.plot_curves(results, tmp_path / sets)
    for file in ("precision_recall.png", "f_threshold.png"):
        narrow, wide = read_image(tmp_path / "S" / file), read_image(tmp_path / "ST" / file)
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


def test_a_grid_has_a_row_for_each_photo_that_all_methods_have(tmp_path):
    for number in range(9):
        photo, mask = np.zeros((30, 40, 3), np.uint8), np.zeros((30, 40), np.uint8)
        photo[..., 0], mask[:, :20] = 255, 255
        for kind, pixels in (("image", photo), ("mask", mask), ("a", mask), ("b", mask)):
            write_image(tmp_path / "S" / kind / f"{number}.png", pixels)
    (tmp_path / "S" / "b" / "0.png").unlink()

    def plot():
        masks = list_folder(tmp_path / "S" / "mask")
        tasks = [pair_maps(name, "S", tmp_path / "S" / name, masks, True) for name in "ab"]
        plots.plot_grid(tasks, [tmp_path / "S"], tmp_path / "grid.png")

    plot()
    grid = read_image(tmp_path / "grid.png").astype(int)
    assert grid.shape[1] / grid.shape[0] == pytest.approx(4 * 160 / (6 * 120 + 36), rel=0.01)
    red = (grid[..., 0] > 200) & (grid[..., 1:].max(-1) < 50)  # the column of photos
    assert red.any(0).mean() == pytest.approx(1 / 4, abs=0.03)
    assert np.count_nonzero(np.diff(red.any(1).astype(int)) == 1) == 6
    for stem in range(1, 9):
        (tmp_path / "S" / "a" / f"{stem}.png").unlink()
    with pytest.raises(InputError, match="no photo has a map of every method"):
        plot()


def test_a_font_with_chinese_characters_is_taken_if_there_is_one(monkeypatch):
    for font in ("Noto Sans CJK SC", "Microsoft YaHei", "PingFang SC", "SimHei"):
        known = [SimpleNamespace(name=name) for name in ("DejaVu Sans", font, "Arial")]
        monkeypatch.setattr("matplotlib.font_manager.fontManager.ttflist", known)
        assert plots.fonts() == ["DejaVu Sans", font]


def test_without_matplotlib_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match="pip install matplotlib"):
        plots.plot_figure3([{"model": "U2Net", "F": 0.9, "params": 44e6}], tmp_path / "f.png")
