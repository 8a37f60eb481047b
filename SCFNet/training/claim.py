"""One run an output folder: the lock that says whose it is."""

from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Optional, Tuple

import paddle
from filelock import FileLock, Timeout

from SCFNet.errors import InputError
from SCFNet.files import remove_leftovers
from SCFNet.training.recipe import Recipe

LOCK = ".lock"


class Claim:
    """An output folder for one run alone. A second one is refused as long as `renew` is called
    before each writing, even if the folder was deleted and made again meanwhile.
    """

    def __init__(self, folder: Path) -> None:
        """Take the folder, which is made if it is missing.

        Raises InputError if another run writes there, or the folder cannot be locked.
        """
        self.folder = folder
        self._take()

    def renew(self) -> None:
        """Take the folder again if its lock is no longer the one that was taken.

        Raises InputError if another run has it by now.
        """
        if self._identity() != self._taken:
            self._lock.release()
            self._take()

    def release(self) -> None:
        """Leave the folder to others."""
        self._lock.release()

    def _take(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.folder / LOCK)
            self._lock.acquire(blocking=False)
        except Timeout as error:
            raise InputError(
                f"{self.folder}: another run is writing here: stop it, or give another --output"
            ) from error
        except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
            fault = getattr(error, "strerror", None) or error
            raise InputError(
                f"{self.folder}: cannot be written: {fault}; give another --output"
            ) from error
        self._taken = self._identity()

    def _identity(self) -> Optional[Tuple[int, int]]:
        """Tell the lock's file from another of its name; None if there is none."""
        try:
            found = (self.folder / LOCK).stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino


@contextmanager
def claimed(recipe: Recipe) -> Iterator[Optional[Claim]]:
    """Hold the output folder for this run alone, without what killed runs left there.

    None for a process that does not write: a dry run, or not the first of several. Raises
    InputError as `Claim` does.
    """
    if paddle.distributed.get_rank() or recipe.dry_run:
        yield None
        return
    claim = Claim(Path(recipe.output))
    try:
        remove_leftovers(claim.folder, age=0)  # nobody else writes here
        yield claim
    finally:
        claim.release()
