"""The output folder of a run: its lock, the state to go on from, the weights, and log.jsonl."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Optional, Tuple

import paddle
from filelock import FileLock, Timeout

from SCFNet.checkpoint import dump_plain, save_weights
from SCFNet.errors import InputError
from SCFNet.files import remove_leftovers, write_atomically
from SCFNet.training.recipe import Recipe
from SCFNet.training.resume import restore
from SCFNet.training.state import BEST, LAST, LOG, STATE, Run, state_of

LOCK = ".lock"


class OutputFolder:
    """The folder in which one run alone writes, within a `with` block.

    Only the first of several processes writes, and a dry run does not. Every method that writes
    raises InputError if a file cannot be written, or if the folder was deleted meanwhile and
    another run has it by now.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.path = Path(recipe.output)
        self.writes = not (recipe.dry_run or paddle.distributed.get_rank())
        self._lock = FileLock(self.path / LOCK)
        self._locked: Optional[Tuple[int, int]] = None  # which file

    def __enter__(self) -> "OutputFolder":
        """Take the folder, and remove what killed runs left there."""
        if self.writes:
            self._hold()
            remove_leftovers(self.path, age=0)  # nobody else writes here
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def begin(self, run: Run) -> None:
        """Resume from the state that the recipe names, if it names one.

        Raises InputError if it cannot be read, or if a new run would overwrite another's.
        """
        resume, state = run.recipe.resume, self.path / STATE
        if resume and resume != "auto":
            restore(run, Path(resume))
        elif resume and state.exists():
            restore(run, state)
        elif state.exists() and not run.recipe.dry_run:
            raise InputError(f"{self.path}: holds a run: give --resume auto, or another --output")

    def save(self, run: Run) -> None:
        """Write the state, which alone is enough to go on from, the weights and the log.

        Each file is the old one or the whole new one. Raises NotFiniteError if weights are infinite
        or not numbers: the files stay as they were.
        """
        state = state_of(run)
        if self.writes:
            self._hold()
            write_atomically(self.path / STATE, dump_plain(state))
            save_weights(run.result, self.path / LAST)
            records = "".join(json.dumps(record) + "\n" for record in run.log)
            write_atomically(self.path / LOG, records.encode())

    def save_epoch(self, run: Run) -> None:
        """Write the weights of the last epoch beside those of the `keep_last` - 1 before it."""
        if self.writes and run.recipe.keep_last:
            self._hold()
            save_weights(run.result, self.path / f"epoch-{run.epoch}.pdparams")
            with suppress(FileNotFoundError):
                (self.path / f"epoch-{run.epoch - run.recipe.keep_last}.pdparams").unlink()

    def save_best(self, run: Run) -> None:
        """Write the weights as the best ones."""
        if self.writes:
            self._hold()
            save_weights(run.result, self.path / BEST)

    def _hold(self) -> None:
        """Take the lock, unless it is held: again if the folder was deleted meanwhile."""
        if self._locked and self._locked == self._lock_file():
            return
        try:
            self._lock.release()
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(blocking=False)
        except Timeout as error:
            raise InputError(
                f"{self.path}: another run is writing here: stop it, or give another --output"
            ) from error
        except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
            fault = getattr(error, "strerror", None) or error
            raise InputError(
                f"{self.path}: cannot be written: {fault}; give another --output"
            ) from error
        self._locked = self._lock_file()

    def _lock_file(self) -> Optional[Tuple[int, int]]:
        """Return device and inode of the lock's file; None if there is none."""
        try:
            found = (self.path / LOCK).stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino
