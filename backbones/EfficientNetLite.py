"""EfficientNet-Lite0 and -Lite2 without their heads; keys equal the published PyTorch files.

Source: Tan and Le, "EfficientNet", ICML 2019, table 1; the Lite variants of Google's TPU
repository leave out squeeze-excite and use ReLU6.
"""

from typing import List, Sequence

from paddle import Tensor, nn
from paddle.nn import functional as F

# Of each stage: kernel size, stride of the first block, expansion.
STAGES = ((3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6), (5, 2, 6), (3, 1, 6))
TAPS = (1, 2, 4, 6)  # the last stages at strides 4, 8, 16 and 32
STEM_CHANNELS = 32


def _conv(in_c: int, out_c: int, kernel_size: int, stride: int = 1, groups: int = 1) -> nn.Conv2D:
    """Build a convolution without bias, padded as TensorFlow does: the smaller half first."""
    return nn.Conv2D(
        in_c, out_c, kernel_size, stride, padding="SAME", groups=groups, bias_attr=False
    )


def _batch_norm(channels: int) -> nn.BatchNorm2D:
    return nn.BatchNorm2D(channels, momentum=0.99, epsilon=1e-3)


class MBConvBlock(nn.Layer):
    """Inverted residual: expand 1x1, depthwise, project 1x1 without activation."""

    def __init__(
        self, in_c: int, out_c: int, expansion: int, kernel_size: int, stride: int
    ) -> None:
        super().__init__()
        mid_c = in_c * expansion
        self.expands = expansion > 1
        self.has_shortcut = stride == 1 and in_c == out_c
        if self.expands:
            self._expand_conv = _conv(in_c, mid_c, 1)
            self._bn0 = _batch_norm(mid_c)
        self._depthwise_conv = _conv(mid_c, mid_c, kernel_size, stride, mid_c)
        self._bn1 = _batch_norm(mid_c)
        self._project_conv = _conv(mid_c, out_c, 1)
        self._bn2 = _batch_norm(out_c)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.has_shortcut else y


class EfficientNetLite(nn.Layer):
    """The stem and STAGES of an EfficientNet-Lite, of `widths` channels and `depths` blocks.

    forward maps photos [N, 3, H, W], (RGB - 127) / 128 as the published weights want them, to the
    features at strides 4, 8, 16 and 32.
    """

    def __init__(self, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        self._conv_stem = _conv(3, STEM_CHANNELS, 3, 2)
        self._bn0 = _batch_norm(STEM_CHANNELS)
        self._blocks = nn.LayerList()
        self._taps: List[int] = []  # indices of the blocks whose outputs are features
        in_c = STEM_CHANNELS
        for stage, (kernel_size, stride, expansion) in enumerate(STAGES):
            out_c = widths[stage]
            self._blocks.append(MBConvBlock(in_c, out_c, expansion, kernel_size, stride))
            for _ in range(depths[stage] - 1):
                self._blocks.append(MBConvBlock(out_c, out_c, expansion, kernel_size, 1))
            in_c = out_c
            if stage in TAPS:
                self._taps.append(len(self._blocks) - 1)
        self.channels = tuple(widths[tap] for tap in TAPS)

    def forward(self, x: Tensor) -> List[Tensor]:
        x = F.relu6(self._bn0(self._conv_stem(x)))
        features = []
        for i, block in enumerate(self._blocks):
            x = block(x)
            if i in self._taps:
                features.append(x)
        return features


def efficientnet_lite0() -> EfficientNetLite:
    """Build EfficientNet-Lite0: 24, 40, 112 and 320 channels."""
    return EfficientNetLite((16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 3, 3, 4, 1))


def efficientnet_lite2() -> EfficientNetLite:
    """Build EfficientNet-Lite2: 24, 48, 120 and 352 channels."""
    return EfficientNetLite((16, 24, 48, 88, 120, 208, 352), (1, 3, 3, 4, 4, 5, 1))
