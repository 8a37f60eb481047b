"""Importing this puts tools/ on sys.path: `python -m tools.predict` works as the script does."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))
