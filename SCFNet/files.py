"""Files in general: checking paths, and writing that never leaves half a file."""

import os
import stat
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Iterator, Sequence, Union

from SCFNet.errors import InputError

PathLike = Union[str, "os.PathLike[str]"]

LEFTOVER_AGE = 3600.0  # seconds without a write, after which a temporary file is stale


def first_few(texts: Sequence[str], shown: int = 5, separator: str = ", ") -> str:
    """Join the first of many texts in one line, and say how many more there are."""
    more = [f"and {len(texts) - shown} more"] if len(texts) > shown else []
    return separator.join([*texts[:shown], *more])


def write_atomically(path: PathLike, data: Union[bytes, memoryview], flush: bool = True) -> None:
    """Write `data` to `path` so that the file is either the old one or the whole new one.

    With `flush` the bytes are flushed to disk, which a power failure asks for, not a killed
    process. Missing parent folders are made. Raises InputError naming `path` if that fails.
    """
    with replacing(path) as stream:
        stream.write(data)
        if flush and stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            stream.flush()
            os.fsync(stream.fileno())


@contextmanager
def replacing(path: PathLike) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`, which takes the place of `path` when the block ends.

    An exception removes it. Missing parent folders are made. A device or a pipe, as /dev/stdout, is
    written to as it is. Raises InputError naming `path` if that fails.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem[:40]}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        if path.parent == Path("/dev") or (path.exists() and not (path.is_file() or path.is_dir())):
            with path.open("wb") as stream:
                yield stream
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w+b") as stream:
            yield stream
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
        raise


def remove_leftovers(folder: PathLike, age: float = LEFTOVER_AGE) -> None:
    """Remove the temporary files in `folder` that nobody has written to for `age` seconds: those of
    killed runs.
    """
    for temporary in Path(folder).glob(".*.[0-9]*-[0-9]*.tmp"):
        with suppress(OSError):
            if time.time() - temporary.stat().st_mtime >= age:
                temporary.unlink()


# Folders in which network drives, systems and archives keep thumbnails and what was deleted.
SYSTEM_FOLDERS = (
    *("@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "~snapshot"),
    *("__macosx", "network trash folder", "temporary items"),
    *("$recycle.bin", "system volume information", "lost+found", "lost.dir"),
)


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is hidden, or a folder that a system keeps for
    itself: it counts for nothing in a folder of photos.
    """
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS


def without_suffix(path: Path, suffixes: Sequence[str]) -> Path:
    """Take the suffix off `path` if it is one of `suffixes`, in any case: 'net-0.80' has none."""
    return path.with_suffix("") if path.suffix.lower() in suffixes else path


def exists(path: PathLike) -> bool:
    """Return whether a file or folder is there; none has a name that is too long."""
    return os.path.exists(path)  # noqa: PTH110  Path.exists raises for such a name


def is_folder(path: PathLike) -> bool:
    """Return whether `path` is a folder; none has a name that is too long."""
    return os.path.isdir(path)  # noqa: PTH112  Path.is_dir raises for such a name


def check_is_folder(path: PathLike, way_out: str = "") -> None:
    """Raise InputError, with the `way_out`, unless `path` is a folder."""
    if not is_folder(path):
        fault = "is a file, not a folder" if exists(path) else "no such folder"
        raise InputError(f"{path}: {fault}{way_out and '; '}{way_out}")


def check_is_file(path: PathLike) -> None:
    """Raise InputError if `path` is missing, empty or a folder, or a pipe or a device, whose
    reading might never end.
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
