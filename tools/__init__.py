"""Importing this puts tools/ on sys.path, so that `python -m tools.predict` does what the script does."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))
