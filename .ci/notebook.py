"""Run a notebook's cells in this environment's kernel; a cell that raises is the exit status.

python .ci/notebook.py tools/notebook.ipynb [EXECUTED.ipynb]
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def main(source: Path, *executed: str) -> int:
    notebook = nbformat.read(source, as_version=4)
    resources = {"metadata": {"path": str(source.parent)}}
    NotebookClient(notebook, timeout=600, resources=resources).execute()
    cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    print(f"{cells} passed, 0 failed (cells of {source})")
    for path in executed:
        nbformat.write(notebook, path)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
