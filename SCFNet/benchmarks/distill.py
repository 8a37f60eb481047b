"""Speed of distilling on one core: from a cache and beside the teacher, and filling the cache."""

import tempfile
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np
import paddle
from tqdm import tqdm

from datasets.loader import Epoch, load_batch
from datasets.sod import Sample
from SCFNet.benchmarks.loading import BATCH, write_photos
from SCFNet.benchmarks.timing import Way, median_computing
from SCFNet.checkpoint import save_weights
from SCFNet.device import set_device
from SCFNet.engine import train_step
from SCFNet.net import SCFNet
from SCFNet.scoring.tables import Row
from SCFNet.training.label_cache import decode, with_cached_labels
from SCFNet.training.recipe import DistillRecipe
from SCFNet.training.state import Target, new_run
from SCFNet.training.teacher import open_teacher

SIDE = 224


def compare(rounds: int, backbone: str = "R50") -> List[Row]:
    """Make a row per way to distil an M3_0.5 from a teacher of `backbone`: its time an image, that
    of what it is compared with, and their ratio. The two take turns, `rounds` times; medians of the
    time on a CPU's core.
    """
    set_device("cpu")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pairs = write_photos(folder)
        photos = [sample._replace(mask=None) for sample in pairs]
        save_weights(SCFNet(backbone=backbone), folder / "teacher.pdparams")
        recipe = DistillRecipe(
            teacher=str(folder / "teacher.pdparams"),
            pretrained="none",
            batch_size=BATCH,
            teacher_size=SIDE,
        )
        teacher = open_teacher(recipe)
        batch = paddle.to_tensor(decode(photos, folder, SIDE).batch)
        cached = with_cached_labels(teacher, photos, folder / "maps")
        dice = steps(recipe, pairs)

        def fill() -> None:
            with tempfile.TemporaryDirectory() as maps:
                with_cached_labels(teacher, photos, Path(maps))

        ways: Dict[Tuple[str, str], Tuple[Way, Way]] = {
            ("a step from the cache", "of training, dice"): (dice, steps(recipe, cached)),
            ("a step beside the teacher", "of training, dice"): (
                dice,
                steps(recipe, photos, lambda images, _: teacher.run(images)),
            ),
            ("filling the cache", "of the teacher alone"): (lambda: teacher.run(batch), fill),
        }
        rows = []
        for (part, other), (theirs, mine) in tqdm(ways.items(), disable=None):
            its, ours = median_computing(theirs, mine, rounds)
            rows.append(
                {
                    f"{backbone} teaches M3_0.5, {SIDE} px": part,
                    "ms an image": 1000 * ours / BATCH,
                    "compared with": other,
                    "its ms an image": 1000 * its / BATCH,
                    "ratio": ours / its,
                }
            )
    return rows


def steps(recipe: DistillRecipe, samples: Sequence[Sample], target: Optional[Target] = None) -> Way:
    """Make a step of a new student on a batch that is loaded and augmented for it."""
    run = new_run(recipe)
    loading = Epoch(samples, [SIDE], BATCH)

    def step() -> np.ndarray:
        images, masks = load_batch(loading, range(BATCH), SIDE)
        images = paddle.to_tensor(images)
        wanted = target(images, None) if target else paddle.to_tensor(masks)
        return train_step(run, images, wanted, lr=0.001, kernel_size=1)

    return step
