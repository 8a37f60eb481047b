"""Reports of a training run: progress bar, printed lines, VisualDL, the lines of a dry run."""

import math
import shlex
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any, Deque, List, Mapping, Tuple

import numpy as np
import paddle
from tqdm import tqdm

from SCFNet.device import peak_memory_mb
from SCFNet.training.distributed import quiet
from SCFNet.training.recipe import changed_flags
from SCFNet.training.schedules import epoch_areas
from SCFNet.training.state import BEST, LAST, Run, Step
from SCFNet.training.validation import pictures

UNSHOWN = ("epoch", "maps")  # of a record, in the line of an epoch
RECENT = 50  # steps, over which the speed is averaged


class Log:
    """Progress bar, printed lines and VisualDL of a run; the first process alone reports.

    A terminal or a pipe that is closed does not stop the run.
    """

    def __init__(self, run: Run) -> None:
        self.recipe = recipe = run.recipe
        self.silent = paddle.distributed.get_rank() > 0
        self.writer = None
        if recipe.log_dir and not (self.silent or recipe.dry_run):
            from visualdl import LogWriter

            self.writer = LogWriter(recipe.log_dir)
        images, steps = len(run.samples), run.steps_per_epoch
        done = run.epoch * images + (run.step - run.epoch * steps) * recipe.batch_size
        self.bar = tqdm(total=recipe.epochs * images, initial=done, unit="img", disable=quiet())
        self.work = np.repeat(epoch_areas(recipe), steps)  # a step's time is in proportion to it
        self.seen = 0  # images
        self.recent: Deque[Tuple[float, int]] = deque(maxlen=RECENT + 1)  # times, and `seen` then
        self._restart_clock()

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self.bar.close()
        if self.writer:
            self.writer.close()

    def write(self, line: str) -> None:
        """Print a line above the bar."""
        if not self.silent:
            with suppress(OSError):
                tqdm.write(line)
                sys.stdout.flush()

    def step(self, epoch: int, done: Step, losses: np.ndarray) -> None:
        """Report a step of an epoch, from 1, and its losses: the total, then those of the maps."""
        step, lr = done.number, done.lr
        with suppress(OSError):
            self.bar.set_description(f"epoch {epoch}/{self.recipe.epochs}", refresh=False)
            self.bar.set_postfix(loss=f"{losses[0]:.4f}", rate=f"{lr:.2g}", refresh=False)
            self.bar.update(done.images)
        self.seen += done.images
        self.recent.append((done.time, self.seen))
        (start, seen), (now, _) = self.recent[0], self.recent[-1]
        speed = (self.seen - seen) / (now - start)
        if self.recipe.log_every and step % self.recipe.log_every == 0:
            maps = " ".join(f"{loss:.6f}" for loss in losses[1:])
            pace = (now - start) / (len(self.recent) - 1) / self.work[step - 1]
            left = tqdm.format_interval(self.work[step:].sum() * pace)
            self.write(
                f"epoch {epoch} step {step} rate {lr:.6f} loss {losses[0]:.6f} "
                f"maps {maps} {speed:.1f} images/s, {left} left"
            )
        if self.writer:
            self.writer.add_scalar("train/rate", lr, step)
            self.writer.add_scalar("train/total", losses[0], step)
            for level, loss in enumerate(losses[1:], 2):
                self.writer.add_scalar(f"train/m{level}", loss, step)
            self.writer.add_scalar("train/images_per_second", speed, step)

    def epoch(self, run: Run) -> None:
        """Print the last record, and send its scores and pictures to VisualDL."""
        record = run.log[-1]
        self.scores(f"epoch {record['epoch']}/{self.recipe.epochs}", record)
        self._restart_clock()  # scoring is not training
        if not self.writer:
            return
        for name in record:
            if name.endswith(("MAE", "Max-F")):
                self.writer.add_scalar(f"val/{name}", record[name], run.step)
        shown = next(iter(run.scored.values()), ())[:4]
        for i, picture in enumerate(pictures(run.result, shown)):
            self.writer.add_image(f"maps/{i}", picture, run.step)

    def scores(self, title: str, record: Mapping[str, Any]) -> None:
        """Print a record, or scores, in one line."""
        numbers = [f"{name} {value}" for name, value in record.items() if name not in UNSHOWN]
        self.write(f"{title}: {', '.join(numbers)}")

    def _restart_clock(self) -> None:
        """Measure the speed from now on."""
        self.recent.clear()
        self.recent.append((time.time(), self.seen))

    def done(self, run: Run) -> None:
        """Print the best epoch and the output files."""
        output = Path(self.recipe.output)
        told = f"done: {output / LAST}, {run.epoch} epochs"
        if run.best_epoch:
            best = run.log[run.best_epoch - 1]
            mae, f = (next(n for n in best if n.endswith(kind)) for kind in ("MAE", "Max-F"))
            told += f", best {mae} {best[mae]} and {f} {best[f]} in epoch {run.best_epoch}"
            told += f": {output / BEST}"
        elif run.best > -math.inf:
            told += f"; warning: none was better than the start, which {output / BEST} holds"
        self.write(told)


def rehearsal(run: Run, seconds: float) -> List[str]:
    """Return the lines that a dry run prints; a step at the largest size took `seconds`."""
    recipe, steps = run.recipe, run.steps_per_epoch
    scored = sum(map(len, run.scored.values()))
    sides = sorted({*recipe.sizes, *recipe.late_sizes})
    total = seconds * steps * sum(epoch_areas(recipe)) / sides[-1] ** 2
    return [
        f"{recipe.model}: {sum(p.size for p in run.net.parameters()):,} parameters",
        f"{recipe.data}: {len(run.samples):,} photos to train on, {scored:,} to score",
        f"flags that are not the paper's: {shlex.join(changed_flags(recipe)) or 'none'}",
        f"a step of {recipe.batch_size} images of {sides[-1]} px on {paddle.get_device()}: "
        f"{seconds:.2f} s, {peak_memory_mb() / 1024:.1f} GB of memory at most",
        f"{recipe.epochs} epochs of {steps} steps, sizes {' '.join(map(str, sides))}: "
        f"{total / 3600:.1f} hours without scoring; nothing was written",
    ]
