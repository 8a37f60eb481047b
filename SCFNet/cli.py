"""What the command-line tools share: errors in one line, exit codes, printing that never fails."""

import argparse
import errno
import io
import sys
from typing import Any, Callable, NoReturn, Optional, TextIO

from SCFNet.errors import ArgumentError, InputError

# What to give to `pip install` for a module, if that is not its own name.
PACKAGES = {
    "PIL": "Pillow",
    "cv2": "opencv-python-headless",
    "paddle": "-r requirements.txt",
    "py_sod_metrics": "pysodmetrics",
    "skimage": "scikit-image",
}
OURS = ("SCFNet", "backbones", "datasets")


class Parser(argparse.ArgumentParser):
    """The command line of a tool: `description` heads its --help as it is, a fault is one line."""

    def __init__(self, description: Optional[str], allow_abbrev: bool = True) -> None:
        layout = argparse.RawDescriptionHelpFormatter
        super().__init__(description=description, formatter_class=layout, allow_abbrev=allow_abbrev)

    def error(self, message: str) -> NoReturn:
        """Raise InputError."""
        raise InputError(f"{message} (--help lists the flags)")


def run(main: Callable[[], int]) -> None:
    """Run a tool's `main` and exit with its code: 2 for bad input, a file that the system refuses
    or a package that is not installed, 130 for Ctrl-C. So that this holds for every package, tools
    import in `main`.

    A reader who has gone (`tool | head -1`) and a character that the console lacks end no work.
    """
    sys.stdout, sys.stderr = unfailing(sys.stdout), unfailing(sys.stderr)
    try:
        code = main()
        print(end="", flush=True)
    except ArgumentError as error:
        code = fail(f"{as_flag(error.argument)}: {error.fault}")
    except InputError as error:
        code = fail(str(error))
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module in OURS:
            raise
        code = fail(f"{module} is not installed: pip install {PACKAGES.get(module, module)}")
    except OSError as error:  # a name that is too long, a folder that may not be read
        if error.filename is None:
            raise
        code = fail(f"{error.filename}: {error.strerror}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    sys.exit(code)


def as_flag(argument: str) -> str:
    """Return the flag of an argument: '--batch-size' of 'batch_size'."""
    return f"--{argument.replace('_', '-')}"


def fail(fault: str) -> int:
    """Print an error in one line, whatever is in it, and return the exit code of bad input."""
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in fault)
    print(f"error: {line}", file=sys.stderr)
    return 2


class OutputFile(io.FileIO):
    """Where a standard stream goes. What is written is dropped once nobody can read it.

    Raises InputError at the first write that fails for another reason than a closed pipe.
    """

    gone = False

    def write(self, data: Any) -> int:
        if not self.gone:
            try:
                return super().write(data)
            except OSError as error:
                self.gone = True
                if error.errno not in (errno.EPIPE, errno.EINVAL):  # the second is Windows'
                    raise InputError(f"the output cannot be written: {error.strerror}") from error
        return len(data)


def unfailing(stream: TextIO) -> TextIO:
    """Make the standard stream `stream` escape what it cannot encode, and outlive its reader.

    A stream that is no file (a notebook's, a test's, or none at all) is returned as it is.
    """
    if not isinstance(stream, io.TextIOWrapper) or isinstance(stream.buffer, io.BytesIO):
        return stream
    stream.reconfigure(errors="backslashreplace")
    if stream.isatty():
        return stream
    stream.flush()
    raw = OutputFile(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), stream.encoding, "backslashreplace", line_buffering=True
    )
