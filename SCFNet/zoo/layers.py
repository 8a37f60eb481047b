"""What several networks of the zoo share."""

from paddle import Tensor, nn
from paddle.nn import functional as F


def torch_init(fan_in: int) -> nn.initializer.Uniform:
    """Start a convolution as PyTorch does, weight and bias alike: U(+-1 / sqrt(fan_in))."""
    bound = fan_in**-0.5
    return nn.initializer.Uniform(-bound, bound)


def resize_corners(x: Tensor, reference: Tensor) -> Tensor:
    """Resize `x` [N, C, h, w] bilinearly, corners in place, to the [H, W] of `reference`."""
    return F.interpolate(x, reference.shape[2:], mode="bilinear", align_corners=True)


def global_mean(x: Tensor) -> Tensor:
    """Average each channel of [N, C, H, W]: [N, C, 1, 1]."""
    return F.adaptive_avg_pool2d(x, 1)
