"""The paper's Table 1 of what was scored: a row per method, M, F and E per set."""

from itertools import groupby
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from SCFNet.files import first_few
from SCFNet.metrics import PROTOCOLS
from SCFNet.scoring.cost import NO_COST, Cost
from SCFNet.scoring.published import PUBLISHED
from SCFNet.scoring.tables import escape_latex, markdown
from SCFNet.scoring.tasks import Result

LOWER_IS_BETTER = ("MAE", "BER")
MARKDOWN_MARKS = ("**{}**", "_{}_", "{}")  # how cells of rank 0, 1 and 2 are printed
LATEX_MARKS = (r"\textbf{{{}}}", r"\textit{{{}}}", "{}")
LATEX_LABELS = {"M ↓": r"$M\downarrow$", "F ↑": r"$F_\beta\uparrow$", "E ↑": r"$E\uparrow$"}


class Cell(NamedTuple):
    """The text of a cell: `rank` is 0 for the best of its column, 1 for the second best, else 2."""

    text: str
    rank: int = 2


class Table(NamedTuple):
    """The group and the label of each column, the rows of cells, and the notes below."""

    columns: List[Tuple[str, str]]
    rows: List[List[Cell]]
    notes: List[str]


def paper_table(
    results: List[Result],
    protocol: str,
    costs: Dict[str, Cost],
    metrics: Sequence[str] = (),
    published: bool = False,
) -> Table:
    """Lay out the scores as the paper's Table 1, a row per method.

    Values that are printed alike have one rank, and those of a single method have none. Notes say
    what the numbers leave out.

    Args:
        results: the scores of each method on each set.
        protocol: the name in PROTOCOLS of the protocol that gave them.
        costs: Params and FLOPs by method, as far as they are known.
        metrics: names of measures that have a column too, behind M, F and E.
        published: put the rows of PUBLISHED, which have no ranks, above the others.
    """
    methods = list(dict.fromkeys(result.method for result in results))
    sets = list(dict.fromkeys(result.data for result in results))
    scored = {(result.method, result.data): result.score.result() for result in results}
    measures = [*zip("MFE", PROTOCOLS[protocol].table), *zip(metrics, metrics)]
    columns = [("", "Method"), ("Params", "(M)"), ("FLOPs", "(G)")]
    notes = [f"M, F, E: {', '.join(PROTOCOLS[protocol].table)}; protocol {protocol}."]
    rows = []
    for method in methods:
        faults = [_left_out(result) for result in results if result.method == method]
        notes += filter(None, faults)
        cost = costs.get(method, NO_COST)
        rows.append(_first_cells(f"{method} *" if any(faults) else method, cost.params, cost.flops))
    for data in sets:
        for label, name in measures:
            columns.append((data, f"{label} {'↓' if name in LOWER_IS_BETTER else '↑'}"))
            values = [scored.get((method, data), {}).get(name) for method in methods]
            for row, cell in zip(rows, _ranked(values, name in LOWER_IS_BETTER)):
                row.append(cell)
        empty = max(result.score.empty for result in results if result.data == data)
        if empty:
            notes.append(f"All-black masks in {data}: {empty}; F is 0 there.")
    if published:
        above = _published_rows(sets, len(measures))
        rows = [*above, *rows]
        as_published = "Rows (paper): as the authors publish them."
        notes.append(as_published if above else "The paper scores none of these sets.")
    return Table(columns, rows, notes)


def to_markdown(table: Table) -> str:
    """Write a table in Markdown: the best values are bold, the second best italic."""
    header = [f"{group} {label}".strip() for group, label in table.columns]
    rows, notes = _marked(table, MARKDOWN_MARKS, lambda text: text.replace("*", "\\*"))
    return "\n\n".join([markdown(header, rows), *notes])


def to_latex(table: Table) -> str:
    r"""Write a table for LaTeX to \input, with rules of the package booktabs, marked alike."""
    above, spans, end = [], [], 0
    for group, columns in groupby(table.columns, lambda column: column[0]):
        start, end = end + 1, end + len([*columns])
        above.append(escape_latex(group))
        if start < end:
            above[-1] = f"\\multicolumn{{{end - start + 1}}}{{c}}{{{above[-1]}}}"
            spans.append(f"\\cmidrule(lr){{{start}-{end}}}")
    header = [
        LATEX_LABELS.get(label)
        or escape_latex(label).replace(" ↓", r"$\downarrow$").replace(" ↑", r"$\uparrow$")
        for _, label in table.columns
    ]
    rows, notes = _marked(table, LATEX_MARKS, escape_latex)
    above_line, head, *body = [" & ".join(cells) + r" \\" for cells in (above, header, *rows)]
    lines = [r"% needs \usepackage{booktabs}", f"\\begin{{tabular}}{{l{'c' * (end - 1)}}}"]
    lines += [r"\toprule", above_line, " ".join(spans), head, r"\midrule", *body]
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [f"\\par{{\\footnotesize {note}\\par}}" for note in notes]
    return "\n".join([*lines, ""])


def _marked(
    table: Table, marks: Sequence[str], escape: Callable[[str], str]
) -> Tuple[List[List[str]], List[str]]:
    """Return the rows and the notes of a table as texts, the best two of each column marked."""
    rows = [[marks[cell.rank].format(escape(cell.text)) for cell in row] for row in table.rows]
    notes = [escape(note) for note in table.notes]
    if any(cell.rank < 2 for row in table.rows for cell in row):
        notes[0] += f" {marks[0].format('Best')}, {marks[1].format('second best')}."
    return rows, notes


def _first_cells(name: str, params: Optional[float], flops: Optional[float]) -> List[Cell]:
    sizes = ((params, 1e6), (flops, 1e9))
    texts = ["-" if number is None else f"{number / unit:.2f}" for number, unit in sizes]
    return [Cell(text) for text in (name, *texts)]


def _published_rows(sets: List[str], width: int) -> List[List[Cell]]:
    """Lay out what PUBLISHED has of `sets` as rows of `paper_table`, with `width` columns a set."""
    rows = []
    for name, row in PUBLISHED.items():
        if row.scores.keys().isdisjoint(sets):
            continue
        cells = _first_cells(f"{name} (paper)", row.params, row.flops)
        for data in sets:
            values = [*row.scores.get(data, ()), *[None] * width][:width]
            cells += [Cell(_decimals(value)) for value in values]
        rows.append(cells)
    return rows


def _decimals(value: Optional[float]) -> str:
    return "-" if value is None else f"{value:.3f}"


def _ranked(values: List[Optional[float]], lower_is_better: bool) -> List[Cell]:
    """Rank the values of a column as they are printed; those of a single method have no rank."""
    texts = [_decimals(value) for value in values]
    numbers = {text for text in texts if text[0].isdigit() and len(texts) > 1}
    best = sorted(numbers, reverse=not lower_is_better)[:2]
    return [Cell(text, best.index(text) if text in best else 2) for text in texts]


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
    count = result.score.count
    total = count + len(result.missing) + len(result.unreadable)
    return (
        f"* {result.method} on {result.data}: averaged over {count} of {total} images;"
        f" {', '.join(parts)}."
    )
