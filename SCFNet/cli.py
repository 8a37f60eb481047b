"""What the command-line tools share: errors in one line, and exit codes."""

import sys
from typing import Callable

from datasets.files import ArgumentError, InputError


def run(main: Callable[[], int]) -> None:
    """Run a tool's `main` and exit with its code: 2 for bad input, 130 for Ctrl-C."""
    try:
        code = main()
    except ArgumentError as error:
        flag = error.argument.replace("_", "-")
        print(f"error: --{flag}: {error.fault}", file=sys.stderr)
        code = 2
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    sys.exit(code)
