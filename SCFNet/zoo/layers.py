"""Layers that several networks of the zoo share."""

from paddle import Tensor, nn
from paddle.nn import functional as F

from SCFNet.net import resize_to


def conv(
    in_c: int,
    out_c: int,
    kernel_size: int,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = False,
    torch_init: bool = False,
) -> nn.Conv2D:
    """Build a convolution that keeps the size at stride 1.

    With `torch_init` it starts as PyTorch's do, weight and bias alike: U(+-1 / sqrt(fan_in)).
    """
    bound = (in_c // groups * kernel_size**2) ** -0.5
    init = nn.initializer.Uniform(-bound, bound) if torch_init else None
    return nn.Conv2D(
        in_c,
        out_c,
        kernel_size,
        stride,
        padding=kernel_size // 2 * dilation,
        dilation=dilation,
        groups=groups,
        weight_attr=init,
        bias_attr=init if bias else False,
    )


def resize_corners(x: Tensor, reference: Tensor) -> Tensor:
    """Resize `x` [N, C, h, w] bilinearly, corners in place, to the [H, W] of `reference`."""
    return resize_to(x, reference, align_corners=True)


def global_mean(x: Tensor) -> Tensor:
    """Average each channel of [N, C, H, W]: [N, C, 1, 1]."""
    return F.adaptive_avg_pool2d(x, 1)
