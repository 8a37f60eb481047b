"""Figures: curves of methods, and the paper's figure 3. They need matplotlib."""

import io
from typing import TYPE_CHECKING, Callable, List, Tuple

import numpy as np

from SCFNet.errors import InputError
from SCFNet.files import PathLike, write_atomically
from SCFNet.metrics import THRESHOLDS
from SCFNet.scoring.tables import Row
from SCFNet.scoring.tasks import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours that colour-blind people tell apart (Okabe and Ito); then the same with other strokes.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STROKES = ("-", "--", ":", "-.")

# The panels of figure 3: the key of a row, what it is divided by, and the label.
FIGURE3 = (
    ("params", 1e6, "Params (M)"),
    ("flops", 1e9, "FLOPs (G)"),
    ("fps", 1, "FPS"),
    ("maccs", 1e9, "MACCs (G)"),
)


def check_matplotlib() -> None:
    """Raise InputError if matplotlib is not installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise InputError("plots need matplotlib: pip install matplotlib") from error


def plot_precision_recall(results: List[Result], path: PathLike) -> None:
    """Write the sets' precision-recall curves as PNG: a panel per set, a line per method."""

    def curve(result: Result) -> Tuple[np.ndarray, np.ndarray]:
        curves = result.score.curves()
        return curves["recall"], curves["precision"]

    _plot_methods(results, curve, "recall", "precision", path)


def plot_f_thresholds(results: List[Result], path: PathLike) -> None:
    """Write the sets' F at every threshold as PNG: a panel per set, a line per method."""

    def curve(result: Result) -> Tuple[np.ndarray, np.ndarray]:
        return THRESHOLDS, result.score.curves()["f"]

    _plot_methods(results, curve, "threshold", "F (β² = 0.3)", path)


def plot_figure3(rows: List[Row], path: PathLike) -> None:
    """Write the paper's figure 3 as PNG: F against Params, FLOPs, FPS and MACCs, a point per model.

    A row has `model` and `F`, and `params`, `flops`, `fps`, `maccs` as far as they are known.
    Raises InputError if no row has an F.
    """
    rows = [row for row in rows if _is_positive(row.get("F"))]
    if not rows:
        raise InputError(
            "no row of the results has an F: python tools/benchmark.py --scores takes it along"
        )
    figure, axes = _new_figure(len(FIGURE3), width=3.3, height=3.4)
    from matplotlib import ticker

    for ax, (key, unit, label) in zip(axes, FIGURE3):
        known = [(i, row) for i, row in enumerate(rows) if _is_positive(row.get(key))]
        for i, row in known:
            x, y = row[key] / unit, row["F"]
            ax.scatter(x, y, s=50, color=COLOURS[i % len(COLOURS)], zorder=3)
            ax.annotate(
                str(row.get("model")),
                (x, y),
                xytext=(0, 8),
                textcoords="offset points",
                ha="center",
            )
        if known:
            ax.set_xscale("log")
            ax.margins(x=0.3, y=0.15)
            low, high = ax.get_xlim()
            ax.xaxis.set_major_locator(
                ticker.LogLocator(subs=(1,) if high > 99 * low else (1, 2, 5))
            )
            ax.xaxis.set_major_formatter("{x:g}")
            ax.xaxis.set_minor_locator(ticker.NullLocator())
        ax.set_xlabel(label)
    axes[0].set_ylabel("F")
    _save(figure, path)


def _is_positive(value: object) -> bool:
    """Tell whether a value of a row, which a person may have written, can be drawn."""
    return isinstance(value, (int, float)) and 0 < value < np.inf


def _plot_methods(
    results: List[Result],
    curve: Callable[[Result], Tuple[np.ndarray, np.ndarray]],
    xlabel: str,
    ylabel: str,
    path: PathLike,
) -> None:
    """Draw a panel per set. The y axis fits what lies between 0.05 and 0.95: the ends are steep."""
    methods = list(dict.fromkeys(result.method for result in results))
    sets = list(dict.fromkeys(result.data for result in results))
    figure, axes = _new_figure(len(sets), width=4.6, height=4)
    lines = {}
    for result in results:
        i = methods.index(result.method)
        colour, stroke = COLOURS[i % len(COLOURS)], STROKES[i // len(COLOURS) % len(STROKES)]
        ax = axes[sets.index(result.data)]
        (lines[result.method],) = ax.plot(*curve(result), stroke, color=colour, linewidth=1.6)
    for ax, data in zip(axes, sets):
        ax.set(title=data, xlabel=xlabel, xlim=(0, 1))
    x, y = np.concatenate([curve(result) for result in results], axis=1)
    top = max(np.ceil(10 * y.max()), 1) / 10
    lowest = y[(x > 0.05) & (x < 0.95)].min(initial=top - 0.1)
    axes[0].set(ylabel=ylabel, ylim=(np.floor(10 * lowest) / 10, top))
    figure.legend(lines.values(), lines, loc="outside right upper", frameon=False)
    _save(figure, path)


def _new_figure(panels: int, width: float, height: float) -> "Tuple[Figure, List[Axes]]":
    """Make a figure with panels side by side, `width` x `height` inches each, apart from pyplot."""
    check_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * panels, height), layout="constrained")
    axes = list(figure.subplots(1, panels, squeeze=False, sharey=True)[0])
    for ax in axes:
        ax.grid(color="0.9")
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: "Figure", path: PathLike) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    write_atomically(path, buffer.getvalue())
