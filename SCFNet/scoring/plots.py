"""Figures: curves of methods, and the paper's figures 1, 3, 4 and 5. They need matplotlib."""

import io
import re
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Dict, Iterator, List, Sequence, Tuple

import cv2
import numpy as np

from datasets.maps import read_map
from datasets.masks import read_mask
from datasets.sod import list_pairs
from SCFNet.errors import InputError
from SCFNet.files import PathLike, write_atomically
from SCFNet.metrics import THRESHOLDS, scale
from SCFNet.photos.reading import read_image
from SCFNet.scoring.tables import Row
from SCFNet.scoring.tasks import Pair, Result, Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colours that colour-blind people tell apart (Okabe and Ito); then the same with other strokes
# and markers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D")
STROKES = ("-", "--", ":", "-.")

# Fonts with Chinese characters, as Linux, Windows and macOS name theirs.
CHINESE = re.compile(
    r"CJK|Source Han|Noto Sans SC|WenQuanYi|Droid Sans Fallback|AR PL|SimHei|SimSun|YaHei|DengXian"
    r"|PingFang|Heiti|Songti|Hiragino Sans GB|Arial Unicode"
)

CELL = (160, 120)  # width and height of a picture in figures 4 and 5

# The panels of figure 3: the key of a row, what it is divided by, and the label.
FIGURE3 = (
    ("params", 1e6, "Params (M)"),
    ("flops", 1e9, "FLOPs (G)"),
    ("fps", 1, "FPS"),
    ("maccs", 1e9, "MACCs (G)"),
)


# The figures of curves: the file, the values of x and y, and the label of y.
CURVES = (
    ("precision_recall.png", "recall", "precision", "precision"),
    ("f_threshold.png", "threshold", "f", "F (β² = 0.3)"),
)


def check_matplotlib() -> None:
    """Raise InputError if matplotlib is not installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise InputError("plots need matplotlib: pip install matplotlib") from error


def plot_curves(results: List[Result], folder: Path) -> None:
    """Write CURVES into `folder`: a panel per set, a line per method.

    The y axis fits what lies between 0.05 and 0.95: the ends are steep.
    """
    methods = list(dict.fromkeys(result.method for result in results))
    sets = list(dict.fromkeys(result.data for result in results))
    curves = [{"threshold": THRESHOLDS, **result.score.curves()} for result in results]
    for file, x_name, y_name, label in CURVES:
        with _figure(folder / file, len(sets), width=4.6, height=4) as axes:
            lines = {}
            for result, curve in zip(results, curves):
                i = methods.index(result.method)
                colour = COLOURS[i % len(COLOURS)]
                stroke = STROKES[i // len(COLOURS) % len(STROKES)]
                ax = axes[sets.index(result.data)]
                (lines[result.method],) = ax.plot(
                    curve[x_name], curve[y_name], stroke, color=colour, linewidth=1.6
                )
            for ax, data in zip(axes, sets):
                ax.set(title=data, xlabel=x_name, xlim=(0, 1))
            x, y = (np.concatenate([curve[name] for curve in curves]) for name in (x_name, y_name))
            top = max(np.ceil(10 * y.max()), 1) / 10
            lowest = y[(x > 0.05) & (x < 0.95)].min(initial=top - 0.1)
            axes[0].set(ylabel=label, ylim=(np.floor(10 * lowest) / 10, top))
            axes[0].figure.legend(lines.values(), lines, loc="outside right upper", frameon=False)


def plot_figure3(rows: List[Row], path: PathLike) -> None:
    """Write the paper's figure 3 as PNG: F against Params, FLOPs, FPS and MACCs, a point per row.

    A row has `F`, `method` or else `model`, which names it, and `params`, `flops`, `fps`, `maccs`
    as far as they are known. Raises InputError if no row has an F.
    """
    rows = [row for row in _scored(rows) if any(key in row for key, _, _ in FIGURE3)]
    with _figure(path, len(FIGURE3), width=3.3, height=3.4) as axes:
        for ax, (key, unit, label) in zip(axes, FIGURE3):
            for i, row in enumerate(rows):
                if key in row:
                    ax.scatter(row[key] / unit, row["F"], s=50, **_style(i), alpha=0.8, zorder=3)
                    _log_axis(ax)
            ax.set_xlabel(label)
        axes[0].set_ylabel("F")
        _legend(axes[-1], [row["name"] for row in rows])


def plot_figure1(rows: List[Row], path: PathLike) -> None:
    """Write the paper's figure 1 as PNG: F against FPS, a bubble per row as large as its Params.

    The rows are as of `plot_figure3`; those without FPS or Params are left out. Raises InputError
    if no row has an F.
    """
    rows = [row for row in _scored(rows) if "fps" in row and "params" in row]
    with _figure(path, 1, width=7, height=4.4) as (ax,):
        for i, row in enumerate(rows):
            area = 40 + 30 * row["params"] / 1e6
            ax.scatter(row["fps"], row["F"], area, **_style(i), alpha=0.6, zorder=3)
            _log_axis(ax)
        ax.margins(x=0.3, y=0.3)
        ax.set(xlabel="FPS", ylabel="F")
        _legend(ax, [f"{row['name']} ({row['params'] / 1e6:.2f} M)" for row in rows])


def _style(i: int) -> Dict[str, str]:
    """Return colour and marker of the point of row `i`."""
    return {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i // len(COLOURS) % len(MARKERS)]}


def _legend(ax: "Axes", names: List[str]) -> None:
    """Draw a legend beside the figure, which names the points of the rows."""
    points = [ax.scatter([], [], s=50, **_style(i)) for i in range(len(names))]
    ax.figure.legend(points, names, loc="outside right upper", frameon=False)


def plot_grid(tasks: List[Task], data: Sequence[Path], path: PathLike, rows: int = 6) -> None:
    """Write the paper's figures 4 and 5 as PNG: a row per photo with its mask and every method's
    map.

    `data` are the folders of the `tasks`' sets, in their order. At most `rows` photos are spread
    over those that every method has a map of. Raises InputError if there is none, and for files
    that cannot be read.
    """
    sets = list(dict.fromkeys(task.data for task in tasks))
    found: List[Tuple[Path, List[Pair]]] = []
    for root, name in zip(data, sets):
        methods = [{pair.stem: pair for pair in task.pairs} for task in tasks if task.data == name]
        for sample in list_pairs(root, "test"):
            if all(sample.stem in pairs for pairs in methods):
                found.append((sample.image, [pairs[sample.stem] for pairs in methods]))
    if not found:
        raise InputError(f"{path}: no photo has a map of every method")
    lines = []
    for place in np.linspace(0, len(found) - 1, min(rows, len(found))).round().astype(int):
        photo, pairs = found[place]
        maps = [read_map(pair.map, pair.white) for pair in pairs]
        pictures = [scale(picture) for picture in (read_mask(pairs[0].mask), *maps)]
        lines.append(np.hstack([_cell(read_image(photo) / 255), *map(_cell, pictures)]))
    names = ["Image", "GT", *dict.fromkeys(task.method for task in tasks)]
    grid = np.vstack(lines)
    with _figure(path, 1, grid.shape[1] / 120, grid.shape[0] / 120 + 0.3) as (ax,):
        ax.imshow(grid, interpolation="none")
        ax.set_xticks([CELL[0] * (i + 0.5) for i in range(len(names))], names)
        ax.set_yticks([])
        ax.tick_params(length=0)
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)


def _cell(picture: np.ndarray) -> np.ndarray:
    """Fit a grey or RGB picture in [0, 1] into a light grey cell, float64 [H, W, 3]."""
    width, height = CELL
    fits = min((width - 4) / picture.shape[1], (height - 4) / picture.shape[0])
    size = [max(1, round(side * fits)) for side in picture.shape[1::-1]]
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    cell = np.full((height, width, 3), 0.8)
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    cell[top : top + size[1], left : left + size[0]] = np.atleast_3d(small).clip(0, 1)
    return cell


def _scored(rows: List[Row]) -> List[Row]:
    """Return the rows that have an F, each with its `name` and those of its numbers that can be
    drawn: a person may have written them. Raises InputError if none has an F.
    """
    scored = []
    for row in rows:
        numbers = {key: value for key, value in row.items() if isinstance(value, (int, float))}
        drawn = {key: value for key, value in numbers.items() if 0 < value < np.inf}
        if "F" in drawn:
            scored.append({**drawn, "name": str(row.get("method") or row.get("model"))})
    if not scored:
        raise InputError(
            "no row of the results has an F: python tools/benchmark.py --scores takes it along"
        )
    return scored


def _log_axis(ax: "Axes") -> None:
    """Make the x axis logarithmic, with few labels in plain numbers."""
    from matplotlib import ticker

    ax.set_xscale("log")
    ax.margins(x=0.3, y=0.15)
    low, high = ax.get_xlim()
    ax.xaxis.set_major_locator(ticker.LogLocator(subs=(1,) if high > 99 * low else (1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(ticker.NullLocator())


@contextmanager
def _figure(path: PathLike, panels: int, width: float, height: float) -> "Iterator[List[Axes]]":
    """Provide panels side by side, `width` x `height` inches each; write the figure when the block
    ends. Nothing of it is pyplot's, whose settings stay.
    """
    check_matplotlib()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"font.family": fonts()}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure = Figure(figsize=(width * panels, height), layout="constrained")
        axes = list(figure.subplots(1, panels, squeeze=False, sharey=True)[0])
        for ax in axes:
            ax.grid(color="0.9")
            ax.set_axisbelow(True)
            ax.spines[["top", "right"]].set_visible(False)
        yield axes
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=150)
    write_atomically(path, buffer.getvalue())


def fonts() -> List[str]:
    """List matplotlib's own font, then this machine's Chinese ones, which stand in for it."""
    from matplotlib.font_manager import fontManager

    names = sorted({font.name for font in fontManager.ttflist})
    return ["DejaVu Sans", *(name for name in names if CHINESE.search(name))]
