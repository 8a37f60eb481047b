"""What scores look like on paper: the Markdown table of the paper's Table 1, JSON and CSV."""

import csv
import io
import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

from datasets.files import InputError, PathLike, first_few
from SCFNet.metrics import PROTOCOLS
from SCFNet.scoring.cost import NO_COST, Cost
from SCFNet.scoring.tables import markdown
from SCFNet.scoring.tasks import PerImage, Result


def read_costs(path: PathLike) -> Dict[str, Cost]:
    """Costs from a JSON file {"U2Net": {"params": 44.0e6, "flops": 47.7e9}, ...}.

    Raises InputError where it is not such a file.
    """
    entries = _read_json(path)
    try:
        return {
            name: Cost(float(entry["params"]), float(entry["flops"]))
            for name, entry in entries.items()
        }
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise InputError(
            f'{path}: is not JSON of {{"NAME": {{"params": 1e6, "flops": 1e9}}}}: {error!r}'
        ) from error


def paper_table(results: List[Result], protocol: str, costs: Dict[str, Cost]) -> str:
    """The scores as the paper's Table 1: a row per method with Params, FLOPs, and M, F, E per set.

    Of two methods or more the best value of a column is **bold** and the second _italic_, as
    printed: equal ones alike. What the numbers leave out is said below the table.
    """
    methods = list(dict.fromkeys(result.method for result in results))
    sets = list(dict.fromkeys(result.data for result in results))
    cells = {(result.method, result.data): result for result in results}
    names = PROTOCOLS[protocol].table
    header = ["Method", "Params (M)", "FLOPs (G)"]
    columns = [
        [_in_units(costs.get(method, NO_COST).params, 1e6) for method in methods],
        [_in_units(costs.get(method, NO_COST).flops, 1e9) for method in methods],
    ]
    for data in sets:
        for letter, name in zip(("M ↓", "F ↑", "E ↑"), names):
            header.append(f"{data} {letter}")
            found = [cells.get((method, data)) for method in methods]
            values = [result and result.score.result()[name] for result in found]
            columns.append(_mark_best(values, lower_is_better=name == "MAE"))
    notes = [f"M, F, E: {', '.join(names)}; protocol `{protocol}`."]
    if len(methods) > 1:
        notes[0] += " **Best**, _second best_."
    rows = []
    for method, row in zip(methods, zip(*columns)):
        incomplete = [_incomplete(r) for r in results if r.method == method]
        incomplete = [note for note in incomplete if note]
        rows.append([method + " \\*" * bool(incomplete), *row])
        notes += [f"\\* {method} on {note}" for note in incomplete]
    for data in sets:
        empty = max(result.score.empty for result in results if result.data == data)
        if empty:
            notes.append(f"{empty} masks of {data} are all black: F is 0 there.")
    return "\n\n".join([markdown(header, rows), *notes])


def to_json(results: List[Result], protocol: str, costs: Dict[str, Cost]) -> str:
    """All values and curves, 256 thresholds from 0 to 1: a line for each method and set."""
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
            "values": result.score.result(),
            "curves": {k: [round(v, 6) for v in c] for k, c in result.score.curves().items()},
        }
        for result in results
    ]
    lines = ",\n".join(map(json.dumps, rows))
    return f'{{"protocol": "{protocol}", "results": [\n{lines}\n]}}\n'


def read_f(path: PathLike) -> Dict[str, float]:
    """The F of each network of this repository in a file of `to_json`, by its backbone's name.

    It is the mean over the file's sets. Raises InputError where it is not such a file.
    """
    found: Dict[str, List[float]] = {}
    scores = _read_json(path)
    try:
        name = PROTOCOLS[scores["protocol"]].table[1]
        for row in scores["results"]:
            if row["model"]:
                found.setdefault(row["model"], []).append(row["values"][name])
    except (TypeError, KeyError) as error:
        raise InputError(f"{path}: is not what tools/eval.py --json writes: {error!r}") from error
    return {model: sum(values) / len(values) for model, values in found.items()}


def read_rows(path: PathLike) -> List[Dict[str, object]]:
    """The rows that tools/benchmark.py --json wrote. Raises InputError where they are not."""
    rows = _read_json(path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path}: is not what tools/benchmark.py --json writes: a list of rows")
    return rows


def _read_json(path: PathLike) -> Any:
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path}: is not JSON: {error}") from error


@contextmanager
def per_image_csv(path: PathLike) -> Iterator[PerImage]:
    """A writer of a line for each image that is scored, with all its values, to a CSV file.

    Raises InputError where it cannot be written. Lines are written as they come.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    with stream:
        writer = csv.writer(stream, lineterminator="\n")

        def write(method: str, data: str, stem: str, values: Dict[str, float]) -> None:
            if not stream.tell():
                writer.writerow(["method", "set", "image", *values])
            writer.writerow([method, data, stem, *values.values()])

        yield write


def to_csv(results: List[Result], protocol: str) -> str:
    """A line for each method and set with all its values."""
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


def _in_units(number: Optional[float], unit: float) -> str:
    return "-" if number is None else f"{number / unit:.2f}"


def _mark_best(values: List[Optional[float]], lower_is_better: bool) -> List[str]:
    """The values with three decimals, the best two marked; '-' for None."""
    texts = ["-" if value is None else f"{value:.3f}" for value in values]
    ranking = sorted({text for text in texts if text != "-"}, reverse=not lower_is_better)
    if len(values) == 1:
        return texts
    marks = dict(zip(ranking, ("**{}**", "_{}_")))
    return [marks.get(text, "{}").format(text) for text in texts]


def _incomplete(result: Result) -> str:
    """What an average leaves out, or nothing."""
    left_out = ", ".join(
        f"{len(stems)} {what} ({first_few(stems)})"
        for stems, what in (
            (result.missing, "missing"),
            (result.unreadable, "unreadable"),
            (result.extra, "without mask"),
        )
        if stems
    )
    if not left_out:
        return ""
    total = result.score.count + len(result.missing) + len(result.unreadable)
    return f"{result.data}: averaged over {result.score.count} of {total} images; {left_out}."
