"""What the command-line tools share: errors in one line, and exit codes."""

import sys
from typing import Callable

from datasets.files import ArgumentError, InputError

# What to give to `pip install` for a module, if that is not its own name.
PACKAGES = {
    "PIL": "Pillow",
    "cv2": "opencv-python-headless",
    "paddle": "-r requirements.txt",
    "py_sod_metrics": "pysodmetrics",
    "skimage": "scikit-image",
}
OURS = ("SCFNet", "backbones", "datasets")


def run(main: Callable[[], int]) -> None:
    """Run a tool's `main` and exit with its code: 2 for bad input or a package that is not
    installed, 130 for Ctrl-C.
    """
    try:
        code = main()
    except ArgumentError as error:
        flag = error.argument.replace("_", "-")
        print(f"error: --{flag}: {error.fault}", file=sys.stderr)
        code = 2
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module in OURS:
            raise
        package = PACKAGES.get(module, module)
        print(f"error: {module} is not installed: pip install {package}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    sys.exit(code)
