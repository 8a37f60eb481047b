"""Files in general: the error for bad input, and writing that never leaves half a file."""

import os
import threading
from pathlib import Path
from typing import Union

PathLike = Union[str, "os.PathLike[str]"]


class InputError(ValueError):
    """Something a person gave is wrong; the message is one line: file, fault, way out."""


def write_atomically(path: PathLike, data: bytes, flush: bool = True) -> None:
    """Write `data` to `path` so that the file is either the old one or the whole new one.

    The bytes go to a temporary file in the same folder, are flushed to disk (which a power failure
    asks for, not a killed process), and the file is renamed. Missing parent folders are made.
    Raises InputError naming `path` where that fails.
    """
    path = Path(path)
    writer = f"{os.getpid()}-{threading.get_ident()}"
    temporary = path.with_name(f".{path.stem[:40]}.{writer}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as stream:
                stream.write(data)
                if flush:
                    stream.flush()
                    os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error


def check_is_file(path: PathLike) -> None:
    """Raise InputError where `path` is missing, empty, a folder, or a pipe or device, the reading
    of which might never end.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder")
    if not path.exists():
        raise InputError(f"{path}: does not exist")
    if not path.is_file():
        raise InputError(f"{path}: is not a regular file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: is empty")
