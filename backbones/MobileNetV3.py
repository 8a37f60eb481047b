"""MobileNetV3-Large x0.5 without its head; keys equal PaddleClas's ImageNet file.

Source: Howard et al., "Searching for MobileNetV3", ICCV 2019, table 1; its widths are
halved here, and rounded to multiples of 8.
"""

from typing import List, NamedTuple

import paddle
from paddle import nn
from paddle.nn import functional as F
from paddle.regularizer import L2Decay


class Unit(NamedTuple):
    """One residual unit: kernel size, expanded and output channels, and its kind."""

    kernel_size: int
    mid_c: int
    out_c: int
    se: bool
    activation: str
    stride: int


STEM_CHANNELS = 8
UNITS = [
    Unit(3, 8, 8, False, "relu", 1),
    Unit(3, 32, 16, False, "relu", 2),
    Unit(3, 40, 16, False, "relu", 1),
    Unit(5, 40, 24, True, "relu", 2),
    Unit(5, 64, 24, True, "relu", 1),
    Unit(5, 64, 24, True, "relu", 1),
    Unit(3, 120, 40, False, "hardswish", 2),
    Unit(3, 104, 40, False, "hardswish", 1),
    Unit(3, 96, 40, False, "hardswish", 1),
    Unit(3, 96, 40, False, "hardswish", 1),
    Unit(3, 240, 56, True, "hardswish", 1),
    Unit(3, 336, 56, True, "hardswish", 1),
    Unit(5, 336, 80, True, "hardswish", 2),
    Unit(5, 480, 80, True, "hardswish", 1),
    Unit(5, 480, 80, True, "hardswish", 1),
]
TAPS = (2, 5, 11, 14)  # the last blocks at strides 4, 8, 16 and 32


class ConvBNLayer(nn.Layer):
    """Convolution without bias, batch norm without weight decay, activation (or none)."""

    def __init__(
        self,
        in_c: int,
        out_c: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
        activation: str = "",
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2D(
            in_c, out_c, kernel_size, stride, kernel_size // 2, groups=groups, bias_attr=False
        )
        self.bn = nn.BatchNorm2D(
            out_c,
            weight_attr=paddle.ParamAttr(regularizer=L2Decay(0.0)),
            bias_attr=paddle.ParamAttr(regularizer=L2Decay(0.0)),
        )
        self.activation = getattr(F, activation) if activation else None

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = self.bn(self.conv(x))
        return self.activation(x) if self.activation else x


class SEModule(nn.Layer):
    """Squeeze and excite with reduction 4 and a hard sigmoid of slope 0.2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2D(1)
        self.conv1 = nn.Conv2D(channels, channels // 4, 1)
        self.conv2 = nn.Conv2D(channels // 4, channels, 1)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        scale = self.conv2(F.relu(self.conv1(self.avg_pool(x))))
        return x * F.hardsigmoid(scale, slope=0.2, offset=0.5)


class ResidualUnit(nn.Layer):
    """Inverted residual: expand 1x1, depthwise, squeeze-excite, linear 1x1."""

    def __init__(self, in_c: int, unit: Unit) -> None:
        super().__init__()
        mid_c, activation = unit.mid_c, unit.activation
        self.shortcut = unit.stride == 1 and in_c == unit.out_c
        self.expand_conv = ConvBNLayer(in_c, mid_c, 1, activation=activation)
        self.bottleneck_conv = ConvBNLayer(
            mid_c, mid_c, unit.kernel_size, unit.stride, mid_c, activation
        )
        self.mid_se = SEModule(mid_c) if unit.se else None
        self.linear_conv = ConvBNLayer(mid_c, unit.out_c, 1)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        y = self.bottleneck_conv(self.expand_conv(x))
        if self.mid_se is not None:
            y = self.mid_se(y)
        y = self.linear_conv(y)
        return x + y if self.shortcut else y


class MobileNetV3(nn.Layer):
    """The stem and the 15 residual units of MobileNetV3-Large x0.5.

    forward maps [N, 3, H, W] to the features at strides 4, 8, 16 and 32.
    """

    channels = tuple(UNITS[tap].out_c for tap in TAPS)

    def __init__(self) -> None:
        super().__init__()
        self.conv = ConvBNLayer(3, STEM_CHANNELS, 3, 2, activation="hardswish")
        widths = [STEM_CHANNELS, *(unit.out_c for unit in UNITS)]
        self.blocks = nn.LayerList(ResidualUnit(in_c, unit) for in_c, unit in zip(widths, UNITS))

    def forward(self, x: paddle.Tensor) -> List[paddle.Tensor]:
        x = self.conv(x)
        features = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in TAPS:
                features.append(x)
        return features


def mobilenet_v3_large_x0_5() -> MobileNetV3:
    """Build MobileNetV3-Large x0.5: 16, 24, 56 and 80 channels."""
    return MobileNetV3()


MobileNetV3_0_5 = mobilenet_v3_large_x0_5  # the release's name
