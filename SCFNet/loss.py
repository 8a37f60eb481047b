"""The losses of the paper: Dice, boundary Dice, SP, and their sums over the four maps.

Every function takes logits [N, 1, H, W] of any float type, a target [N, 1, H, W] in [0, 1] (masks
may be soft), computes in float32, and returns a scalar tensor, averaged over the samples.
"""

from typing import List, Optional, Sequence

import paddle
from paddle import Tensor

functional = paddle.nn.functional

LOSS_TERMS = ("sp", "dice", "bce")  # what a training loss may be the sum of
PBSM_KERNEL_SIZES = (13, 11, 9, 7, 5, 3, 1)  # each for PBSM_STAGE of the paper's epochs
PBSM_STAGE, PBSM_EPOCHS = 10, 69


def dice_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Compute the Dice loss of sigmoid(logits) and `mask` over each whole sample, smoothed by 1."""
    return _dice(_probability(logits), mask)


def boundary_map(x: Tensor, kernel_size: int) -> Tensor:
    """Find the boundary of maps `x` [N, 1, H, W] in [0, 1], thickened by a max-pool: [N, 1, H, W].

    It is maxpool_kxk(maxpool_3x3(1 - x) - (1 - x)), k being the odd `kernel_size`. The k x k
    max-pool is a 1 x k, then a k x 1, for speed; in this order the gradients of ties go where they
    go in a square, to the first pixel in reading order. Raises ValueError for an even size.
    """
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be odd, not {kernel_size}")
    inverse = 1 - x
    edge = functional.max_pool2d(inverse, 3, stride=1, padding=1) - inverse
    if kernel_size == 1:
        return edge
    k, half = kernel_size, kernel_size // 2
    rows = functional.max_pool2d(edge, (1, k), stride=1, padding=(0, half))
    return functional.max_pool2d(rows, (k, 1), stride=1, padding=(half, 0))


def boundary_dice_loss(
    logits: Tensor, mask: Tensor, epoch: int = 0, *, kernel_size: Optional[int] = None
) -> Tensor:
    """Compute the Dice loss of the two boundaries, `boundary_map`, over each whole sample.

    `epoch`, from 0, gives the kernel size of the release's code, as there; `kernel_size` names it.
    """
    if kernel_size is None:
        kernel_size = pbsm_kernel(epoch, schedule="release")
    boundary = boundary_map(_probability(logits), kernel_size)
    return _dice(boundary, boundary_map(mask, kernel_size))


def sp_loss(
    logits: Tensor,
    mask: Tensor,
    kernel_size: int,
    weight: float = 1.0,
    boundary: Optional[Tensor] = None,
) -> Tensor:
    """Compute the structure polishing (SP) loss, Dice + `weight` * boundary Dice (section 3.3).

    Args:
        logits: [N, 1, H, W].
        mask: [N, 1, H, W] in [0, 1].
        kernel_size: of the boundary, odd.
        weight: of the boundary's part.
        boundary: `boundary_map(mask, kernel_size)`, if the caller has it already.
    """
    if boundary is None:
        boundary = boundary_map(mask, kernel_size)
    probability = _probability(logits)
    edges = boundary_map(probability, kernel_size)
    return _dice(probability, mask) + weight * _dice(edges, boundary)


def bce_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Compute the binary cross-entropy, averaged over the pixels (the paper's ablation)."""
    return functional.binary_cross_entropy_with_logits(logits.astype("float32"), mask)


def fs_loss(maps: Sequence[Tensor], mask: Tensor, kernel_size: int) -> Tensor:
    """Compute L_FS, the loss of fully supervised training (section 3.3): SP of each map."""
    return weighted_sum(map_losses(maps, mask, "sp", kernel_size))


def kd_loss(maps: Sequence[Tensor], teacher_logits: Tensor) -> Tensor:
    """Compute L_KD, the loss of distillation (section 3.3): Dice of each map and the teacher's m2.

    No gradient reaches the teacher.
    """
    return weighted_sum(map_losses(maps, soft_target(teacher_logits), "dice"))


def map_losses(
    maps: Sequence[Tensor], target: Tensor, loss: str, kernel_size: int = 1
) -> List[Tensor]:
    """Compute the loss of this name of each map, unweighted.

    Args:
        maps: logits [N, 1, H, W] of m2, m3, m4, m5.
        target: of all maps, [N, 1, H, W] in [0, 1].
        loss: one or more of LOSS_TERMS, joined by +.
        kernel_size: of SP's boundary, odd.

    Raises ValueError for another `loss`.
    """
    terms = loss_terms(loss)
    boundary = boundary_map(target, kernel_size) if "sp" in terms else None
    functions = {
        "sp": lambda logits: sp_loss(logits, target, kernel_size, boundary=boundary),
        "dice": lambda logits: dice_loss(logits, target),
        "bce": lambda logits: bce_loss(logits, target),
    }
    named = [functions[term] for term in LOSS_TERMS if term in terms]
    return [sum(function(logits) for function in named) for logits in maps]


def loss_terms(loss: str) -> List[str]:
    """Split the name of a training loss, such as "bce+sp". Raises ValueError for unknown terms."""
    terms = loss.split("+")
    if not set(terms) <= set(LOSS_TERMS) or len(set(terms)) < len(terms):
        raise ValueError(
            f"unknown loss {loss!r}: choose from {', '.join(LOSS_TERMS)}, or a sum such as bce+sp"
        )
    return terms


def weighted_sum(losses: Sequence[Tensor]) -> Tensor:
    """Add up the losses of m2, m3, m4, m5: each map counts half of the one before it."""
    return sum(loss / 2**i for i, loss in enumerate(losses))


def soft_target(teacher_logits: Tensor) -> Tensor:
    """Turn logits into what a student learns from: probabilities, float32, without gradient."""
    return _probability(teacher_logits).detach()


def pbsm_kernel(epoch: int, epochs: int = PBSM_EPOCHS, schedule: str = "paper") -> int:
    """Look up the kernel size of SP's boundary in `epoch` (from 0) of `epochs`.

    PBSM, the progressive boundary supervision method (paper section 3.3), is a staircase from 13.
    "paper" (also the notebook): 13 in the first 10 of 69 epochs, 2 less every 10, 1 in the last 9.
    "release": each step one epoch earlier, as the release's code does. Other totals scale the
    staircase of 69. Raises ValueError for another schedule.
    """
    if schedule not in ("paper", "release"):
        raise ValueError(f"unknown schedule {schedule!r}: choose from paper, release")
    epoch = epoch * PBSM_EPOCHS // epochs
    if schedule == "release":
        epoch += 1
    return PBSM_KERNEL_SIZES[min(epoch // PBSM_STAGE, len(PBSM_KERNEL_SIZES) - 1)]


def _probability(logits: Tensor) -> Tensor:
    return functional.sigmoid(logits.astype("float32"))


def _dice(p: Tensor, g: Tensor) -> Tensor:
    p, g = p.flatten(1), g.flatten(1)  # (N, H * W): one long sum rounds less than two nested ones
    return (1 - (1 + 2 * (p * g).sum(1)) / (1 + (p + g).sum(1))).mean()
