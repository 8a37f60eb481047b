"""What the command-line tools share: errors in one line, exit codes, printing that never fails."""

import argparse
import errno
import io
import os
import sys
from pathlib import Path
from typing import Any, Callable, NoReturn, Optional, Sequence, TextIO

from SCFNet.errors import ArgumentError, InputError, is_memory_short
from SCFNet.packages import check_beside_numpy, why_not_imported


def filled(text: str) -> str:
    """Return `text`, the value of a flag. Raises ArgumentTypeError if it is empty, as that of a
    shell's variable which is not set: as a path it would be the current folder.
    """
    if not text:
        raise argparse.ArgumentTypeError("the name is empty")
    return text


class Parser(argparse.ArgumentParser):
    """The command line of a tool: `description` heads its --help as it is, a fault is one line, and
    ~ is the home folder in every path, also behind = (`--output=~/masks`), where shells leave it.
    No text or path is empty but of an argument whose type is `str`: the tool says what that means.
    """

    def __init__(self, description: Optional[str], allow_abbrev: bool = True) -> None:
        layout = argparse.RawDescriptionHelpFormatter
        super().__init__(description=description, formatter_class=layout, allow_abbrev=allow_abbrev)
        self.register("type", None, filled)
        self.register("type", Path, lambda text: Path(filled(text)))

    def parse_args(  # type: ignore[override]
        self, args: Optional[Sequence[str]] = None, namespace: None = None
    ) -> argparse.Namespace:
        """Parse `args`, by default the program's own, with ~ as the home folder."""
        given = sys.argv[1:] if args is None else args
        expanded = ["=".join(map(os.path.expanduser, arg.split("="))) for arg in given]
        return super().parse_args(expanded, namespace)

    def error(self, message: str) -> NoReturn:
        """Raise InputError."""
        raise InputError(f"{message} (--help lists the flags)")


def run(main: Callable[[], int]) -> None:
    """Run a tool's `main` and exit with its code: 2 for bad input, a file that the system refuses
    or a package that does not import, 130 for Ctrl-C. So that this holds for every package, tools
    import in `main`.

    A reader who has gone (`tool | head -1`), a full disk behind stdout or stderr and a character
    that the console lacks end no work; only stdout's disk is an error, at the end.
    """
    open_closed_streams()
    stdout, stderr = (Output(descriptor, "w", closefd=False) for descriptor in (1, 2))
    sys.stdout, sys.stderr = lay_over(stdout, sys.stdout), lay_over(stderr, sys.stderr)
    try:
        check_beside_numpy("cv2")
        code = main()
    except ArgumentError as error:
        code = fail(f"{as_flag(error.argument)}: {error.fault}")
    except InputError as error:
        code = fail(str(error))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    except BaseException as error:  # SystemExit too: a broken package may raise it
        fault = "not enough memory" if is_memory_short(error) else why_not_imported(error)
        if fault is None and isinstance(error, OSError) and error.filename is not None:
            fault = f"{error.filename}: {error.strerror}"  # too long a name, a closed folder
        if fault is None:
            raise
        code = fail(fault)
    print(end="", flush=True)
    if stdout.fault and stdout.fault.errno not in (errno.EPIPE, errno.EINVAL):  # EINVAL: Windows'
        code = fail(f"the output cannot be written: {stdout.fault.strerror}")
    sys.exit(code)


def as_flag(argument: str) -> str:
    """Return the flag of an argument: '--batch-size' of 'batch_size'."""
    return f"--{argument.replace('_', '-')}"


def fail(fault: str) -> int:
    """Print an error in one line, whatever is in it, and return the exit code of bad input."""
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in fault)
    print(f"error: {line}", file=sys.stderr)
    return 2


class Output(io.FileIO):
    """Where stdout or stderr goes. What cannot be written is dropped, so that no work is lost."""

    fault: Optional[OSError] = None  # why the first of it could not

    def write(self, data: Any) -> int:
        """Write bytes, or drop them; return their number."""
        try:
            return super().write(data)
        except OSError as error:
            self.fault = self.fault or error
            return len(data)


def open_closed_streams() -> None:
    """Open those of stdin, stdout and stderr that are closed, as in services, on the null device,
    so that no other file gets their numbers.

    In sys.stdin, sys.__stdout__ and sys.__stderr__ they are None as before.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number is taken
    nowhere = open(os.devnull, "w", errors="backslashreplace")  # noqa: PTH123, SIM115
    sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere


def lay_over(output: Output, stream: TextIO) -> TextIO:
    """Return what replaces `stream`, stdout or stderr: it escapes characters that it cannot encode.
    A terminal is kept, else the new stream writes to `output`; any other stream (a test's) is
    returned as it is.
    """
    if stream not in (sys.__stdout__, sys.__stderr__):
        return stream
    stream.reconfigure(errors="backslashreplace")
    if stream.isatty():
        return stream
    stream.flush()
    buffer = io.BufferedWriter(output)
    return io.TextIOWrapper(buffer, stream.encoding, "backslashreplace", line_buffering=True)
