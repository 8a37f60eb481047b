"""Files of scores: writing them as JSON and CSV, and reading JSON back."""

import csv
import io
import json
import math
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Tuple

from SCFNet.errors import InputError
from SCFNet.files import PathLike, replacing, write_atomically
from SCFNet.metrics import PROTOCOLS
from SCFNet.scoring.cost import NO_COST, Cost
from SCFNet.scoring.tables import Row
from SCFNet.scoring.tasks import PerImage, Result


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
