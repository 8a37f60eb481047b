"""What a training run tells: a progress bar, lines, and VisualDL."""

import json
import sys
import time
from typing import Any, Dict, Sequence

import numpy as np
from tqdm import tqdm

from datasets.sod import Sample
from SCFNet.device import paddle
from SCFNet.processes import quiet
from SCFNet.recipe import Recipe
from SCFNet.training_run import Run
from SCFNet.validation import pictures


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
        self.began, self.seen, self.left = time.time(), 0, recipe.epochs * images - done
        self.minutes_before = run.log[-1]["minutes"] if run.log else 0.0

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        if self.writer:
            self.writer.close()

    def minutes(self) -> float:
        """Since training began, without the pauses."""
        return self.minutes_before + (time.time() - self.began) / 60

    def write(self, line: str) -> None:
        if not self.silent:
            tqdm.write(line)
            sys.stdout.flush()

    def step(self, step: int, epoch: int, losses: np.ndarray, rate: float, images: int) -> None:
        self.bar.set_description(f"epoch {epoch + 1}/{self.recipe.epochs}", refresh=False)
        self.bar.set_postfix(loss=f"{losses[0]:.4f}", rate=f"{rate:.2g}", refresh=False)
        self.bar.update(images)
        self.seen += images
        speed = self.seen / (time.time() - self.began)
        if self.recipe.log_every and step % self.recipe.log_every == 0:
            maps = " ".join(f"{loss:.6f}" for loss in losses[1:])
            left = tqdm.format_interval((self.left - self.seen) / speed)
            self.write(f"epoch {epoch + 1} step {step} rate {rate:.6f} loss {losses[0]:.6f} "
                       f"maps {maps} {speed:.1f} images/s, {left} left")  # fmt: skip
        if self.writer:
            self.writer.add_scalar("train/rate", rate, step)
            for name, loss in zip(("total", "m2", "m3", "m4", "m5"), losses):
                self.writer.add_scalar(f"train/{name}", loss, step)
            self.writer.add_scalar("train/images_per_second", speed, step)

    def epoch(self, run: Run, record: Dict[str, Any], shown: Sequence[Sample]) -> None:
        self.write(json.dumps(record))
        if not self.writer:
            return
        for name in record:
            if name.endswith(("MAE", "Max-F")):
                self.writer.add_scalar(f"val/{name}", record[name], run.step)
        for i, picture in enumerate(pictures(run.result, shown[:4])):
            self.writer.add_image(f"maps/{i}", picture, run.step)
