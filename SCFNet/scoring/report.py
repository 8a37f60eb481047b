"""Scores on paper and in files: the paper's Table 1 in Markdown and LaTeX, JSON and CSV."""

import csv
import io
import json
import math
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from SCFNet.errors import InputError
from SCFNet.files import PathLike, first_few, replacing, write_atomically
from SCFNet.metrics import PROTOCOLS
from SCFNet.scoring.cost import NO_COST, Cost
from SCFNet.scoring.published import PUBLISHED
from SCFNet.scoring.tables import Row, escape_latex, latex, markdown
from SCFNet.scoring.tasks import PerImage, Result

# How the best and the second best value of a column are printed.
MARKDOWN_MARKS = ("**{}**", "_{}_")
LATEX_MARKS = (r"\textbf{{{}}}", r"\textit{{{}}}")
LOWER_IS_BETTER = ("MAE", "BER")


def paper_table(
    results: List[Result],
    protocol: str,
    costs: Dict[str, Cost],
    metrics: Sequence[str] = (),
    published: bool = False,
    in_latex: bool = False,
) -> str:
    r"""Write the scores as the paper's Table 1, a row per method.

    The best value of a column is bold and the second italic; values that are printed alike are
    marked alike, and those of a single method are not. Notes below say what the numbers leave out.

    Args:
        results: the scores of each method on each set.
        protocol: the name in PROTOCOLS of the protocol that gave them.
        costs: Params and FLOPs by method, as far as they are known.
        metrics: names of measures that have a column too, behind M, F and E.
        published: put the rows of PUBLISHED, which have no marks, above the others.
        in_latex: write LaTeX to \input, with rules of the package booktabs, not Markdown.
    """
    methods = list(dict.fromkeys(result.method for result in results))
    sets = list(dict.fromkeys(result.data for result in results))
    cells = {(result.method, result.data): result for result in results}
    marks = LATEX_MARKS if in_latex else MARKDOWN_MARKS
    columns = [
        [_in_units(costs.get(method, NO_COST).params, 1e6) for method in methods],
        [_in_units(costs.get(method, NO_COST).flops, 1e9) for method in methods],
    ]
    for data in sets:
        found = [cells.get((method, data)) for method in methods]
        for name in (*PROTOCOLS[protocol].table, *metrics):
            values = [result.score.result()[name] if result else None for result in found]
            columns.append(_mark_best(values, name in LOWER_IS_BETTER, marks))
    notes = [f"M, F, E: {', '.join(PROTOCOLS[protocol].table)}; protocol {protocol}."]
    names = []
    for method in methods:
        left_out = [_left_out(result) for result in results if result.method == method]
        faults = [f"* {method} on {text}" for text in left_out if text]
        names.append(f"{method} *" if faults else method)
        notes += faults
    for data in sets:
        empty = max(result.score.empty for result in results if result.data == data)
        if empty:
            notes.append(f"All-black masks in {data}: {empty}; F is 0 there.")
    rows = [list(row) for row in zip(names, *columns)]
    if published:
        rows = [*_published_rows(sets, 3 + len(metrics)), *rows]
        notes.append("Rows (paper): as the authors publish them.")

    def escape(text: str) -> str:
        return escape_latex(text) if in_latex else text.replace("*", "\\*")

    rows = [[escape(name), *row] for name, *row in rows]
    notes = [escape(note) for note in notes]
    if len(methods) > 1:
        notes[0] += f" {marks[0].format('Best')}, {marks[1].format('second best')}."
    down = [name in LOWER_IS_BETTER for name in metrics]
    if in_latex:
        measures = [r"$M\downarrow$", r"$F_\beta\uparrow$", r"$E\uparrow$"]
        arrows = [r"$\downarrow$" if low else r"$\uparrow$" for low in down]
        measures += [escape_latex(name) + arrow for name, arrow in zip(metrics, arrows)]
        groups = [("", 1), ("Params", 1), ("FLOPs", 1), *((name, len(measures)) for name in sets)]
        return latex(groups, ["Method", "(M)", "(G)", *measures * len(sets)], rows, notes)
    measures = ["M ↓", "F ↑", "E ↑"]
    measures += [f"{name} {'↓' if low else '↑'}" for name, low in zip(metrics, down)]
    header = ["Method", "Params (M)", "FLOPs (G)"]
    header += [f"{data} {measure}" for data in sets for measure in measures]
    return "\n\n".join([markdown(header, rows), *notes])


def _published_rows(sets: List[str], width: int) -> List[List[str]]:
    """Lay out PUBLISHED like the rows of `paper_table`, with `width` columns a set."""
    rows = []
    for name, row in PUBLISHED.items():
        cells = [f"{name} (paper)", _in_units(row.params, 1e6), _in_units(row.flops, 1e9)]
        for data in sets:
            values = [*row.scores.get(data, ()), *[None] * width][:width]
            cells += ["-" if value is None else f"{value:.3f}" for value in values]
        rows.append(cells)
    return rows


def to_json(results: List[Result], protocol: str, costs: Dict[str, Cost]) -> str:
    """Write all values and curves, 256 thresholds from 0 to 1: a line for each method and set.

    A value that is not finite, as the library of `pysod` may give, is null.
    """
    rows = [
        {
            "method": result.method,
            "set": result.data,
            "images": result.score.count,
            "missing": result.missing,
            "extra": result.extra,
            "unreadable": result.unreadable,
            "empty_masks": result.score.empty,
            **costs.get(result.method, NO_COST)._asdict(),
            "values": {
                name: value if math.isfinite(value) else None
                for name, value in result.score.result().items()
            },
            "curves": {k: [round(v, 6) for v in c] for k, c in result.score.curves().items()},
        }
        for result in results
    ]
    lines = ",\n".join(map(json.dumps, rows))
    return f'{{"protocol": "{protocol}", "results": [\n{lines}\n]}}\n'


def read_costs(path: PathLike) -> Dict[str, Cost]:
    """Read costs from a JSON file {"U2Net": {"params": 44.0e6, "flops": 47.7e9}, ...}.

    Numbers below 10,000 are millions of parameters and billions of FLOPs, as tables print them:
    {"params": 44.0, "flops": 47.7}. Raises InputError if it is no such file.
    """
    entries = _read_json(path)
    try:
        return {
            name: Cost(_in_full(entry["params"], 1e6), _in_full(entry["flops"], 1e9))
            for name, entry in entries.items()
        }
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise InputError(
            f'{path}: is not JSON of {{"NAME": {{"params": 25.5, "flops": 13.1}}}}: {error!r}'
        ) from error


def read_scores(path: PathLike) -> List[Row]:
    """Read the methods of a file of `to_json`: a row has `method`, `model` (the network's name if
    it is one of this repository, else None), `F`, `params` and `flops` as far as they are known.

    F is the mean over the file's sets. Raises InputError if it is no such file.
    """
    rows: Dict[str, Row] = {}
    values: Dict[str, List[float]] = {}
    scores = _read_json(path)
    try:
        name = PROTOCOLS[scores["protocol"]].table[1]
        for row in scores["results"]:
            values.setdefault(row["method"], []).append(float(row["values"][name]))
            cost = {key: row[key] for key in ("model", "params", "flops")}
            rows[row["method"]] = {"method": row["method"], **cost}
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: is not what tools/eval.py --json writes: {error!r}") from error
    return [{**row, "F": sum(values[method]) / len(values[method])} for method, row in rows.items()]


def read_rows(path: PathLike) -> List[Row]:
    """Read the rows that tools/benchmark.py --json wrote. Raises InputError for any other file."""
    rows = _read_json(path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path}: is not what tools/benchmark.py --json writes: a list of rows")
    return rows


def _read_json(path: PathLike) -> Any:
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON: {error}") from error


def to_csv(results: List[Result], protocol: str) -> str:
    """Write a CSV line for each method and set with all its values."""
    text = io.StringIO()
    names = list(results[0].score.result())
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "set", "protocol", "images", "missing", "unreadable", *names])
    for result in results:
        counts = [result.score.count, len(result.missing), len(result.unreadable)]
        values = result.score.result()
        writer.writerow(
            [result.method, result.data, protocol, *counts, *(values[name] for name in names)]
        )
    return text.getvalue()


def save_texts(texts: Sequence[Tuple[Path, str]]) -> None:
    """Write each text to its file. Raises InputError that names those that cannot be written."""
    faults = []
    for path, text in texts:
        try:
            write_atomically(path, text.encode("utf-8", "backslashreplace"))
        except InputError as error:
            faults.append(str(error))
    if faults:
        raise InputError("; ".join(faults))


@contextmanager
def per_image_csv(path: PathLike) -> Iterator[PerImage]:
    """Open a CSV file for a line with all its values for each image that is scored.

    The file appears when the block ends. A name that is no text is escaped. Raises InputError if
    the file cannot be written.
    """
    with replacing(path) as stream:
        text = io.TextIOWrapper(stream, "utf-8", "backslashreplace", newline="")
        writer = csv.writer(text, lineterminator="\n")
        header: List[str] = []

        def write(method: str, data: str, stem: str, values: Dict[str, float]) -> None:
            if not header:
                header.extend(["method", "set", "image", *values])
                writer.writerow(header)
            writer.writerow([method, data, stem, *values.values()])

        yield write
        text.flush()
        text.detach()


def _in_full(number: Any, unit: float) -> float:
    """Take a small number as one of units. Raises ValueError for one that is not positive."""
    value = float(number)
    if not 0 < value < math.inf:
        raise ValueError(f"{number} is no size")
    return value * unit if value < 10_000 else value


def _in_units(number: Optional[float], unit: float) -> str:
    return "-" if number is None else f"{number / unit:.2f}"


def _mark_best(
    values: List[Optional[float]], lower_is_better: bool, marks: Tuple[str, str]
) -> List[str]:
    """Print the values with three decimals, the best two marked; '-' for None."""
    texts = ["-" if value is None else f"{value:.3f}" for value in values]
    if len(values) == 1:
        return texts
    ranking = sorted({text for text in texts if text[0].isdigit()}, reverse=not lower_is_better)
    mark_of = dict(zip(ranking, marks))
    return [mark_of.get(text, "{}").format(text) for text in texts]


def _left_out(result: Result) -> str:
    """Describe what an average leaves out; '' if nothing."""
    lists = {
        "missing": result.missing,
        "unreadable": result.unreadable,
        "without mask": result.extra,
    }
    parts = [f"{len(stems)} {what} ({first_few(stems)})" for what, stems in lists.items() if stems]
    if not parts:
        return ""
    total = result.score.count + len(result.missing) + len(result.unreadable)
    return (
        f"{result.data}: averaged over {result.score.count} of {total} images; {', '.join(parts)}."
    )
