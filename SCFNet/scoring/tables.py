"""Tables in Markdown, and text that is escaped for LaTeX."""

from typing import Any, Dict, List, Sequence

Row = Dict[str, Any]  # of measurements: what was measured, by column

LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Write a Markdown table, aligned as plain text too: first column left, the others right."""
    lines = [[_one_line(cell).replace("|", "\\|") for cell in row] for row in (header, *rows)]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(header))]

    def row(cells: List[str]) -> str:
        first = cells[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:])]
        return "| " + " | ".join([first, *rest]) + " |"

    rule = "|".join(["-" * (widths[0] + 2)] + ["-" * (width + 1) + ":" for width in widths[1:]])
    return "\n".join([row(lines[0]), f"|{rule}|", *map(row, lines[1:])])


def measurements(rows: List[Row]) -> str:
    """Write rows with the same keys as a Markdown table; None is a dash."""

    def cell(value: object) -> str:
        if value is None:
            return "-"
        if isinstance(value, float):
            return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
        return f"{value:,}" if isinstance(value, int) else str(value)

    return markdown(list(rows[0]), [[cell(value) for value in row.values()] for row in rows])


def escape_latex(text: str) -> str:
    """Escape a text for LaTeX, which then prints every character of it."""
    return "".join(LATEX_SPECIAL.get(character, character) for character in _one_line(text))


def _one_line(cell: object) -> str:
    """Take line feeds out of a cell, and put a question mark for what cannot be printed."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(str(cell).split()))
