"""Files in general: the error for bad input, and writing that never leaves half a file."""

import os
import tempfile
from pathlib import Path
from typing import Union

PathLike = Union[str, "os.PathLike[str]"]


class InputError(ValueError):
    """Something a person gave is wrong. The message is one line: the file, the fault, the way out."""


def write_atomically(path: PathLike, data: bytes) -> None:
    """Write `data` to `path` so that the file is either the old one or the whole new one.

    The bytes go to a temporary file in the same folder, are flushed to disk, and the file is
    renamed. Missing parent folders are made. Raises InputError naming `path` where that fails.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
