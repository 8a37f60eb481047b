"""Serve a page to drop photos on, and an HTTP door for programs; --help describes both.

python tools/serve.py --port 8000
"""

import _repository  # noqa: F401

from SCFNet.cli import run
from SCFNet.serving.command import main

if __name__ == "__main__":
    run(main)
