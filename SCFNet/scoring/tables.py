"""Markdown tables."""

from typing import Dict, List, Sequence


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table whose columns are aligned also as plain text; the first column is left."""
    lines = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(header))]

    def row(cells: List[str]) -> str:
        first = cells[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:])]
        return "| " + " | ".join([first, *rest]) + " |"

    rule = "|".join(["-" * (widths[0] + 2)] + ["-" * (width + 1) + ":" for width in widths[1:]])
    return "\n".join([row(lines[0]), f"|{rule}|", *map(row, lines[1:])])


def measurements(rows: List[Dict[str, object]]) -> str:
    """A Markdown table of rows with the same keys; numbers are cut to four digits."""

    def cell(value: object) -> str:
        if isinstance(value, float):
            return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
        return f"{value:,}" if isinstance(value, int) else str(value)

    return markdown(list(rows[0]), [[cell(value) for value in row.values()] for row in rows])
