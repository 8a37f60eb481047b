"""Schedules of a run: the learning rate, the kernel size of the boundary, the input sizes."""

import math
from typing import List, Sequence

import numpy as np

from SCFNet.loss import pbsm_kernel
from SCFNet.training.recipe import Recipe

COSINE_DELAY_STEPS = 2  # the release's cosine starts that late


def lr_at(step: int, steps_per_epoch: int, recipe: Recipe) -> float:
    """Compute a step's learning rate: linear from `recipe.min_lr` up to `recipe.lr` in
    `warmup_epochs`, then a cosine back, which ends at the last step (paper section 4.2).

    As in the release, the cosine begins COSINE_DELAY_STEPS steps after the warm-up. `step` counts
    from 0.
    """
    total = recipe.epochs * steps_per_epoch
    warmup = min(recipe.warmup_epochs, recipe.epochs) * steps_per_epoch
    if step >= total - 1:
        return recipe.min_lr
    rise = recipe.lr - recipe.min_lr
    if step < warmup:
        return recipe.min_lr + rise * step / warmup
    progress = max(0, step - warmup - COSINE_DELAY_STEPS) / (total - warmup)
    return recipe.min_lr + rise * (1 + math.cos(math.pi * progress)) / 2


def kernel_at(epoch: int, recipe: Recipe) -> int:
    """Look up the kernel size of the SP loss's boundary in `epoch` (from 0)."""
    if recipe.kernel_size.isdecimal():
        return int(recipe.kernel_size)
    return pbsm_kernel(epoch, recipe.epochs, recipe.kernel_size)


def sizes_at(epoch: int, recipe: Recipe) -> Sequence[int]:
    """Look up the sides that batches of `epoch` (from 0) may have."""
    late = recipe.late_sizes and epoch >= recipe.late_from * recipe.epochs
    return recipe.late_sizes if late else recipe.sizes


def epoch_areas(recipe: Recipe) -> List[float]:
    """Compute the mean area of the inputs of each epoch, in pixels."""
    epochs = range(recipe.epochs)
    return [float(np.mean(np.square(sizes_at(epoch, recipe)))) for epoch in epochs]
