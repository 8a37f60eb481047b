"""What a training run tells: a progress bar, lines, and VisualDL."""

import json
import sys
import time
from collections import deque
from typing import Any, Deque, Dict, Sequence, Tuple

import numpy as np
import paddle
from tqdm import tqdm

from datasets.sod import Sample
from SCFNet.training.distributed import quiet
from SCFNet.training.recipe import Recipe, sizes_at
from SCFNet.training.state import Run
from SCFNet.training.validation import pictures

RECENT = 50  # steps, over which the speed is averaged


class Log:
    """What a run tells: a progress bar, lines, and VisualDL; the first process alone tells."""

    def __init__(self, recipe: Recipe, run: Run, images: int, steps: int) -> None:
        self.recipe = recipe
        self.silent = paddle.distributed.get_rank() > 0
        self.writer = None
        if recipe.log_dir and not self.silent:
            from visualdl import LogWriter

            self.writer = LogWriter(recipe.log_dir)
        done = run.step // steps * images + run.step % steps * recipe.batch_size
        self.bar = tqdm(total=recipe.epochs * images, initial=done, unit="img", disable=quiet())
        areas = [np.mean(np.square(sizes_at(epoch, recipe))) for epoch in range(recipe.epochs)]
        self.work = np.repeat(areas, steps)  # of each step, which its time is in proportion to
        self.seen = 0
        self.recent: Deque[Tuple[float, int]] = deque([(time.time(), 0)], maxlen=RECENT + 1)

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        if self.writer:
            self.writer.close()

    def write(self, line: str) -> None:
        if not self.silent:
            tqdm.write(line)
            sys.stdout.flush()

    def step(self, step: int, epoch: int, losses: np.ndarray, rate: float, images: int) -> None:
        self.bar.set_description(f"epoch {epoch + 1}/{self.recipe.epochs}", refresh=False)
        self.bar.set_postfix(loss=f"{losses[0]:.4f}", rate=f"{rate:.2g}", refresh=False)
        self.bar.update(images)
        self.seen += images
        self.recent.append((time.time(), self.seen))
        (start, seen), (now, _) = self.recent[0], self.recent[-1]
        speed = (self.seen - seen) / (now - start)
        if self.recipe.log_every and step % self.recipe.log_every == 0:
            maps = " ".join(f"{loss:.6f}" for loss in losses[1:])
            pace = (now - start) / (len(self.recent) - 1) / self.work[step - 1]
            left = tqdm.format_interval(self.work[step:].sum() * pace)
            self.write(f"epoch {epoch + 1} step {step} rate {rate:.6f} loss {losses[0]:.6f} "
                       f"maps {maps} {speed:.1f} images/s, {left} left")  # fmt: skip
        if self.writer:
            self.writer.add_scalar("train/rate", rate, step)
            self.writer.add_scalar("train/total", losses[0], step)
            for level, loss in enumerate(losses[1:], 2):
                self.writer.add_scalar(f"train/m{level}", loss, step)
            self.writer.add_scalar("train/images_per_second", speed, step)

    def epoch(self, run: Run, record: Dict[str, Any], shown: Sequence[Sample]) -> None:
        self.write(json.dumps(record))
        self.recent.clear()
        self.recent.append((time.time(), self.seen))  # scoring is not training
        if not self.writer:
            return
        for name in record:
            if name.endswith(("MAE", "Max-F")):
                self.writer.add_scalar(f"val/{name}", record[name], run.step)
        for i, picture in enumerate(pictures(run.result, shown[:4])):
            self.writer.add_image(f"maps/{i}", picture, run.step)
