"""Speed of training on one core: the SP loss, loading, and a whole step, beside the obvious way."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Callable, List, Sequence, Tuple

import cv2
import numpy as np
import paddle
from paddle import Tensor
from tqdm import tqdm

from datasets.loader import Epoch, load_batch
from datasets.sod import Sample
from SCFNet.benchmarks.loading import BATCH, ellipses, normalised_batch, write_photos
from SCFNet.benchmarks.loading import SIDE as STEP_SIDE
from SCFNet.benchmarks.timing import Way, median_computing
from SCFNet.device import set_device
from SCFNet.engine import train_step
from SCFNet.loss import dice_loss, fs_loss, weighted_sum
from SCFNet.scoring.tables import Row
from SCFNet.training.recipe import Recipe
from SCFNet.training.state import new_run

functional = paddle.nn.functional

LOSS_SIDE, KERNEL_SIZE = 224, 13


def compare(rounds: int) -> List[Row]:
    """Make a row per part of training: ms an image of the other way, of ours, and ours as its
    share.

    The two ways take turns, `rounds` times; the numbers are medians of the time on a CPU's core.
    """
    set_device("cpu")
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    bar = tqdm(total=3, unit="part", disable=None)
    with tempfile.TemporaryDirectory() as folder:
        steps = median_computing(*training_steps(write_photos(Path(folder))), rounds)
    bar.update()
    losses = median_computing(*sp_losses(), rounds)
    bar.update()
    cv2.setNumThreads(threads)
    command = [sys.executable, "-m", "SCFNet.benchmarks.loading"]
    root = Path(__file__).resolve().parents[2]
    loading = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    bar.update()
    bar.close()
    parts = {
        f"whole step, {STEP_SIDE} px": ("the network alone", steps),
        f"SP loss, {LOSS_SIDE} px, kernel size {KERNEL_SIZE}": (
            "square pools, mask's boundary per map",
            losses,
        ),
        "load a pair of 400x300": ("the release's steps", tuple(map(float, loading.split()))),
    }
    return [
        {
            "part": part,
            "other way": name,
            "its ms an image": 1000 * other / BATCH,
            "our ms an image": 1000 * ours / BATCH,
            "share": ours / other,
        }
        for part, (name, (other, ours)) in parts.items()
    ]


def sp_losses() -> Tuple[Way, Way]:
    """Make two ways to the SP loss of four maps [8, 1, 224, 224], forward and backward: obvious
    way, and ours.
    """
    mask = paddle.to_tensor(ellipses(LOSS_SIDE))
    rng = np.random.default_rng(0)
    maps = []
    for level in range(4):
        side = LOSS_SIDE >> (level + 2)
        noise = paddle.to_tensor(rng.standard_normal((BATCH, 1, side, side), "float32"))
        logits = functional.interpolate(noise, size=mask.shape[2:], mode="bilinear")
        maps.append((2 * logits + 4 * (mask - 0.5)).detach())
        maps[-1].stop_gradient = False

    def run(loss: Callable[..., Tensor]) -> None:
        loss(maps, mask, KERNEL_SIZE).backward()
        for logits in maps:
            logits.clear_gradient()

    return lambda: run(obvious_fs_loss), lambda: run(fs_loss)


def obvious_fs_loss(maps: Sequence[Tensor], mask: Tensor, kernel_size: int) -> Tensor:
    """Do `fs_loss` as its definition reads: square pools, and the mask's boundary for each map."""

    def boundary(x: Tensor) -> Tensor:
        edge = functional.max_pool2d(1 - x, 3, stride=1, padding=1) - (1 - x)
        return functional.max_pool2d(edge, kernel_size, stride=1, padding=kernel_size // 2)

    def boundary_dice(logits: Tensor) -> Tensor:
        p, g = boundary(functional.sigmoid(logits)), boundary(mask)
        overlap, total = (p * g).sum(axis=(2, 3)), (p + g).sum(axis=(2, 3))
        return (1 - (1 + 2 * overlap) / (1 + total)).mean()

    return weighted_sum([dice_loss(logits, mask) + boundary_dice(logits) for logits in maps])


def training_steps(samples: Sequence[Sample]) -> Tuple[Way, Way]:
    """Make two steps of M3_0.5 on 8 images: forward, backward and update alone, and loading, SP
    loss and all that the training loop does in a step.
    """
    recipe = Recipe(pretrained="none", batch_size=BATCH)
    run = new_run(recipe)
    epoch = Epoch(samples, [STEP_SIDE], BATCH)
    fixed = paddle.to_tensor(normalised_batch(epoch)[0])

    def network_alone() -> None:
        sum(logits.mean() for logits in run.net(fixed)).backward()
        run.optimizer.step()
        run.optimizer.clear_grad()

    def whole() -> None:
        images, masks = load_batch(epoch, range(BATCH), STEP_SIDE)
        images, masks = paddle.to_tensor(images), paddle.to_tensor(masks)
        train_step(run, recipe, images, masks, lr=1e-3, kernel_size=KERNEL_SIZE)

    run.optimizer.set_lr(1e-3)
    return network_alone, whole
