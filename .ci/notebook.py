"""Run a notebook's cells in this environment's kernel, and show what they print.

    python .ci/notebook.py tools/notebook.ipynb [EXECUTED.ipynb]

A cell that raises ends the run, and is the exit status.
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError


def main(source: Path, *executed: str) -> int:
    notebook = nbformat.read(source, as_version=4)
    resources = {"metadata": {"path": str(source.parent)}}
    fault = ""
    try:
        NotebookClient(notebook, timeout=600, resources=resources).execute()
    except CellExecutionError as error:
        fault = str(error)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in cells:
        print("".join(output.get("text", "") for output in cell.outputs), end="")
    for path in executed:
        nbformat.write(notebook, path)
    print(fault or f"{len(cells)} passed, 0 failed: the cells of {source}")
    return 1 if fault else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
