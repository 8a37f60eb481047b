"""The errors that a person can mend: each message is one line that names what is wrong."""

from contextlib import contextmanager
from typing import Iterator

# What libraries say of it: libjpeg, OpenCV, C++, ONNX Runtime, Paddle, Pillow, Linux, Python's
# threads.
NO_MEMORY = (
    *("insufficient memory", "memory allocation", "bad_alloc", "failed to allocate"),
    *("resourceexhausted", "out of memory", "cannot allocate memory", "can't start new thread"),
)


class InputError(ValueError):
    """Something a person gave is wrong; the message is one line: file, fault, way out."""


class ArgumentError(InputError):
    """An argument has a value that it cannot have. The command line shows its flag instead."""

    def __init__(self, argument: str, fault: str) -> None:
        super().__init__(argument, fault)  # both, so that it pickles
        self.argument, self.fault = argument, fault

    def __str__(self) -> str:
        return f"{self.argument}: {self.fault}"


class CheckpointError(InputError):
    """A checkpoint that cannot be read, is refused, or does not fit the network."""


def is_memory_short(error: BaseException) -> bool:
    """Return whether an error, of Python or of a library, means that there is too little memory."""
    return isinstance(error, MemoryError) or any(text in str(error).lower() for text in NO_MEMORY)


@contextmanager
def memory_faults(name: object) -> Iterator[None]:
    """Raise what means too little memory as InputError, which names what it was too little for."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if is_memory_short(error):
            raise InputError(f"{name}: not enough memory") from error
        raise


class NotFiniteError(ArithmeticError):
    """The loss is infinite or not a number."""
