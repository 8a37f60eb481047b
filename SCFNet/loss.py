"""The losses of the paper: Dice, boundary Dice, SP, and their sums over the four maps.

Every function takes logits [N, 1, H, W] of any float type, a target [N, 1, H, W] in [0, 1] (masks
may be soft), computes in float32, and returns a scalar tensor, averaged over the samples.
"""

from typing import Any, List, Optional, Sequence, Tuple

import cv2
import numpy as np
import paddle
from paddle import Tensor

functional = paddle.nn.functional

LOSSES = ("sp", "dice", "bce", "bce+sp")
PBSM_KERNEL_SIZES = (
    13,
    11,
    9,
    7,
    5,
    3,
    1,
)  # each for PBSM_STAGE of the paper's epochs
PBSM_STAGE, PBSM_EPOCHS = 10, 69

NORMAL = 1 << 20  # added to the high half of a float64: the smallest exponent of normal numbers


def dice_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Dice loss of sigmoid(logits) and `mask`, smoothed by 1, over each whole sample."""
    return _dice(_probability(logits), mask)


def boundary_map(x: Tensor, k: int) -> Tensor:
    """The boundary of maps `x` [N, 1, H, W] in [0, 1], thickened to an odd `k`: [N, 1, H, W].

    It is maxpool_kxk(maxpool_3x3(1 - x) - (1 - x)), in values and in gradients, which among equal
    pixels of a window go to the first in reading order. On CPU it is computed without max_pool2d,
    whose 13 x 13 window takes more time than the network.
    """
    return (_CpuBoundary.apply if x.place.is_cpu_place() else pooled_boundary)(x, k)


def pooled_boundary(x: Tensor, k: int) -> Tensor:
    """`boundary_map` for any device.

    The k x k max-pool is a 1 x k, then a k x 1: in this order ties go where a square's go.
    """
    inverse = 1 - x
    edge = functional.max_pool2d(inverse, 3, stride=1, padding=1) - inverse
    if k == 1:
        return edge
    rows = functional.max_pool2d(edge, (1, k), stride=1, padding=(0, k // 2))
    return functional.max_pool2d(rows, (k, 1), stride=1, padding=(k // 2, 0))


def boundary_dice_loss(logits: Tensor, mask: Tensor, k: int) -> Tensor:
    """Dice loss of the two boundaries of thickness `k`, over each whole sample."""
    return _dice(boundary_map(_probability(logits), k), boundary_map(mask, k))


def sp_loss(
    logits: Tensor, mask: Tensor, k: int, weight: float = 1.0, boundary: Optional[Tensor] = None
) -> Tensor:
    """Structure-preserving loss: Dice + `weight` * boundary Dice (paper, SP loss).

    `boundary` is `boundary_map(mask, k)` where the caller has it already.
    """
    if boundary is None:
        boundary = boundary_map(mask, k)
    probability = _probability(logits)
    return _dice(probability, mask) + weight * _dice(boundary_map(probability, k), boundary)


def bce_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy, averaged over the pixels (the paper's ablation)."""
    return functional.binary_cross_entropy_with_logits(logits.astype("float32"), mask)


def map_losses(maps: Sequence[Tensor], target: Tensor, loss: str, k: int = 1) -> List[Tensor]:
    """The loss of each of the maps (m2, m3, m4, m5) against one `target`, unweighted.

    `loss` is one of LOSSES; "bce+sp" is the sum of the two. `k` is the thickness of SP's boundary.
    Raises ValueError for another `loss`.
    """
    if loss == "dice":
        return [dice_loss(logits, target) for logits in maps]
    if loss == "bce":
        return [bce_loss(logits, target) for logits in maps]
    if loss not in LOSSES:
        raise ValueError(f"unknown loss {loss!r}: choose from {', '.join(LOSSES)}")
    boundary = boundary_map(target, k)
    losses = [sp_loss(logits, target, k, boundary=boundary) for logits in maps]
    if loss == "bce+sp":
        losses = [sp + bce_loss(logits, target) for sp, logits in zip(losses, maps)]
    return losses


def weighted_sum(losses: Sequence[Tensor]) -> Tensor:
    """The total of the losses of m2, m3, m4, m5: each map counts half of the one before it."""
    return sum(loss / 2**i for i, loss in enumerate(losses))


def fs_loss(maps: Sequence[Tensor], mask: Tensor, k: int) -> Tensor:
    """L_FS, the loss of fully supervised training: SP of (m2, m3, m4, m5), weighted."""
    return weighted_sum(map_losses(maps, mask, "sp", k))


def kd_loss(maps: Sequence[Tensor], teacher_logits: Tensor) -> Tensor:
    """L_KD, the loss of distillation: Dice of the student's four maps and the teacher's m2.

    No gradient reaches the teacher.
    """
    return weighted_sum(map_losses(maps, soft_target(teacher_logits), "dice"))


def soft_target(teacher_logits: Tensor) -> Tensor:
    """What the student learns from: the teacher's probabilities, float32, without gradient."""
    return _probability(teacher_logits).detach()


def pbsm_kernel(epoch: int, epochs: int = PBSM_EPOCHS, schedule: str = "paper") -> int:
    """Thickness k of the boundary in `epoch` (from 0) of `epochs`: PBSM's staircase 13 ... 1.

    'paper' (also the notebook): 13 in the first 10 of 69 epochs, 2 less every 10, 1 in the last 9;
    'release': each step one epoch earlier, as the release's code does. Other totals scale the
    staircase of 69. Raises ValueError for another schedule.
    """
    if schedule not in ("paper", "release"):
        raise ValueError(f"unknown schedule {schedule!r}: choose from paper, release")
    epoch = epoch * PBSM_EPOCHS // epochs + (schedule == "release")
    return PBSM_KERNEL_SIZES[min(epoch // PBSM_STAGE, len(PBSM_KERNEL_SIZES) - 1)]


def _probability(logits: Tensor) -> Tensor:
    return functional.sigmoid(logits.astype("float32"))


def _dice(p: Tensor, g: Tensor) -> Tensor:
    p, g = p.flatten(1), g.flatten(1)  # (N, H * W): one long sum rounds less than two nested ones
    return (1 - (1 + 2 * (p * g).sum(1)) / (1 + (p + g).sum(1))).mean()


class _CpuBoundary(paddle.autograd.PyLayer):
    """`boundary_map` by OpenCV, which remembers where each maximum comes from: the backward pass
    adds up gradients there instead of searching again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, k: int) -> Tensor:
        boundary = 1 - x.numpy()
        ctx.sources = []
        for plane in boundary[:, 0]:
            largest, thin_source = _max_pool(plane, 3)
            plane[:], thick_source = _max_pool(largest - plane, k)
            ctx.sources.append((thin_source, thick_source))
        return paddle.to_tensor(boundary, place=x.place)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        result = grad.numpy()
        for plane, (thin_source, thick_source) in zip(result[:, 0], ctx.sources):
            grad_edge = _unpool(plane, thick_source)
            plane[:] = grad_edge - _unpool(grad_edge, thin_source)
        return paddle.to_tensor(result, place=grad.place)


def _max_pool(plane: np.ndarray, k: int) -> Tuple[np.ndarray, Optional[np.ndarray]]:
    """Max-pool of float32 [H, W], not negative, by a k x k window with stride 1, and the flat index
    [H * W] of the pixel that each maximum comes from, the first of equals. k = 1: `plane`, None.

    Value and index are packed into the high and the low half of a float64, whose order is that of
    the values, then that of the reversed indices. NORMAL keeps it out of the subnormal numbers, all
    equal to 0 where some library has switched them off (as anything linked with -ffast-math does).
    """
    if k == 1:
        return plane, None
    reversed_index = np.arange(plane.size, 0, -1).reshape(plane.shape)
    packed = (plane.view("int32").astype("int64") + NORMAL << 32) | reversed_index
    packed = cv2.dilate(packed.view("float64"), np.ones((k, k), "uint8")).view("int64")
    index = plane.size - (packed & 0xFFFFFFFF)
    return ((packed >> 32) - NORMAL).astype("int32").view("float32"), index.ravel()


def _unpool(grad: np.ndarray, source: Optional[np.ndarray]) -> np.ndarray:
    """The gradient of `_max_pool`: each pixel's sum over the windows that took their maximum
    from it."""
    if source is None:
        return grad
    return np.bincount(source, grad.ravel(), grad.size).reshape(grad.shape)
