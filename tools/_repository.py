"""Importing this puts the repository's root on sys.path, so that a tool finds its packages."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
