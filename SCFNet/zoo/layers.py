"""What several networks of the zoo share."""

from paddle import Tensor, nn
from paddle.nn import functional as F


def torch_init(fan_in: int) -> nn.initializer.Uniform:
    """PyTorch's starting values of a convolution, weight and bias alike: U(+-1 / sqrt(fan_in))."""
    bound = fan_in**-0.5
    return nn.initializer.Uniform(-bound, bound)


def resize_corners(x: Tensor, reference: Tensor) -> Tensor:
    """`x` [N, C, h, w] bilinearly, corners in place, at the height and width of `reference`."""
    return F.interpolate(x, reference.shape[2:], mode="bilinear", align_corners=True)


def global_mean(x: Tensor) -> Tensor:
    """The mean of each channel of [N, C, H, W]: [N, C, 1, 1]."""
    return F.adaptive_avg_pool2d(x, 1)
