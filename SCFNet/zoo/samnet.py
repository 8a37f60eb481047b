"""SAMNet: a lightweight network whose blocks choose among scales, pixel by pixel.

Source: Liu et al., "SAMNet: Stereoscopically attentive multi-scale network for lightweight salient
object detection", TIP 2021. Its training, which is not repeated here: a backbone that its authors
trained on ImageNet, Adam at 5e-4, decay 1e-4, 50 epochs of each of the sizes 672, 504, 420, 252 and
336, cross-entropy of the five maps with weights 1, .4, .4, .4, .4.
"""

from functools import lru_cache, partial
from typing import List, Sequence, Tuple

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.nn import functional as F

from SCFNet.net import SaliencyNet
from SCFNet.photos.transform import IMAGENET
from SCFNet.zoo.layers import conv, global_mean, resize_corners

WIDTHS = (16, 32, 64, 96, 128)  # of the five layers
BLOCKS = (1, 1, 3, 6, 3)
BRANCHES = ((1, 2, 3), (1, 2, 3), (1, 2, 3), (1, 2, 3), (1, 2))  # dilations in a block's branches
POOLS = (1, 2, 3, 6)  # sides of the pyramid's maps
FUSIONS = ((96, 3, 1), (64, 3, 2), (32, 5, 2), (16, 5, 2), (16, 5, 2))  # width, kernel, dilation
SMALLEST = 1e-6  # probabilities are kept this far from 0 and 1 to have a logit


_conv = partial(conv, torch_init=True)


class ConvBN(nn.Layer):
    """`conv`, BN and, unless `linear`, ReLU."""

    def __init__(self, conv: nn.Conv2D, linear: bool = False) -> None:
        super().__init__()
        layers = [conv, nn.BatchNorm2D(conv.weight.shape[0])]
        self.conv = nn.Sequential(*layers) if linear else nn.Sequential(*layers, nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Separable(nn.Layer):
    """Depthwise, then 1x1 convolution, each with BN and ReLU."""

    def __init__(
        self, in_c: int, out_c: int, kernel_size: int = 3, stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            ConvBN(_conv(in_c, in_c, kernel_size, stride, dilation, groups=in_c)),
            ConvBN(_conv(in_c, out_c, 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class VAMM(nn.Layer):
    """Vivid attention among multi-scale branches: each pixel and channel weighs the branches.

    forward maps [N, C, H, W] to the same shape.
    """

    def __init__(self, channels: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.scales = len(dilations) + 1
        self.conv = Separable(channels, channels)
        self.branches = nn.LayerList(
            [Separable(channels, channels, dilation=dilation) for dilation in dilations]
        )
        self.fc1 = ConvBN(_conv(channels, channels, 1))
        self.fc2 = _conv(channels, self.scales * channels, 1)
        self.fuse = ConvBN(_conv(channels, channels, 1), linear=True)
        narrow = channels // 4
        self.convs = nn.Sequential(
            ConvBN(_conv(channels, narrow, 1)),
            Separable(narrow, narrow, dilation=2),
            Separable(narrow, narrow, dilation=4),
            _conv(narrow, 1, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        start = self.conv(x)
        scales = [branch(start) for branch in self.branches] + [start]
        total = paddle.add_n(scales)
        by_channel = self.fc2(self.fc1(global_mean(total)))  # (N, scales * C, 1, 1)
        by_channel = by_channel.reshape([-1, self.scales, x.shape[1], 1, 1])
        by_pixel = self.convs(total).unsqueeze(1)  # (N, 1, 1, H, W)
        weights = F.softmax(by_channel * by_pixel, axis=1)
        return self.fuse((weights * paddle.stack(scales, 1)).sum(1)) + x


class ContextPath(nn.Layer):
    """The backbone. forward maps [N, 3, H, W] to the five layers' outputs, at strides 2 to 32."""

    def __init__(self) -> None:
        super().__init__()
        in_c = 3
        for i, (width, blocks, dilations) in enumerate(zip(WIDTHS, BLOCKS, BRANCHES)):
            if i == 0:
                down: nn.Layer = ConvBN(_conv(in_c, width, 3, stride=2))
            else:
                down = Separable(in_c, width, stride=2)
            layer = nn.Sequential(down, *(VAMM(width, dilations) for _ in range(blocks)))
            setattr(self, f"layer{i + 1}", layer)
            in_c = width

    def forward(self, x: Tensor) -> List[Tensor]:
        features = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4, self.layer5):
            x = layer(x)
            features.append(x)
        return features


class PyramidPooling(nn.Layer):
    """Adds the context of four grids to the deepest features; their shape stays."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for i in range(len(POOLS)):
            setattr(self, f"conv{i + 1}", ConvBN(_conv(channels, channels // 4, 1)))
        self.out = ConvBN(_conv(2 * channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        levels = [x]
        for convolve, side in zip((self.conv1, self.conv2, self.conv3, self.conv4), POOLS):
            levels.append(resize_corners(convolve(_pool(x, side)), x))
        return self.out(paddle.concat(levels, 1))


def _pool(x: Tensor, side: int) -> Tensor:
    """Pool [N, C, H, W] to [N, C, side, side] by adaptive averages.

    In an export it is two products, since ONNX has adaptive pools only for multiples of `side`.
    """
    if paddle.in_dynamic_mode():
        return F.adaptive_avg_pool2d(x, side)
    down, across = (
        paddle.to_tensor(_bin_means(length, side), dtype=x.dtype) for length in x.shape[2:]
    )
    return paddle.matmul(paddle.matmul(down, x), across, transpose_y=True)


@lru_cache(maxsize=None)
def _bin_means(length: int, bins: int) -> np.ndarray:
    """Make [bins, length], whose rows average over a bin each; neighbours may share a value."""
    weights = np.zeros((bins, length))
    for i, row in enumerate(weights):
        first, end = i * length // bins, -(-(i + 1) * length // bins)
        row[first:end] = 1 / (end - first)
    return weights


class Head(nn.Layer):
    """Features [N, C, h, w] to probabilities [N, 1, h, w]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Dropout2D(0.1), _conv(channels, 1, 1, bias=True))

    def forward(self, x: Tensor) -> Tensor:
        return F.sigmoid(self.conv(x))


class SAMNet(SaliencyNet):
    """forward maps [N, 3, H, W] to the logits of (main, side4, side3, side2, side1), from fine to
    coarse, [N, 1, H, W] each.

    The heads' sigmoid comes before the upsampling. A full-size logit is therefore that of a
    probability, which is clipped to have one.
    """

    model_type = "SAMNet"
    input_size = 336
    normalisation = IMAGENET  # of the authors' tests

    def __init__(self) -> None:
        super().__init__()
        self.context_path = ContextPath()
        self.pyramid_pooling = PyramidPooling(WIDTHS[-1])
        self.prepare = nn.LayerList([ConvBN(_conv(c, c, 1), linear=True) for c in WIDTHS[::-1]])
        self.fuse = nn.LayerList(
            [
                Separable(in_c, out_c, kernel_size, dilation=dilation)
                for in_c, (out_c, kernel_size, dilation) in zip(WIDTHS[::-1], FUSIONS)
            ]
        )
        self.heads = nn.LayerList([Head(out_c) for out_c, _, _ in FUSIONS])

    def forward(self, x: Tensor) -> Tuple[Tensor, ...]:
        features = self.context_path(x)
        fused = self.pyramid_pooling(features[-1])
        maps: List[Tensor] = []
        for prepare, fuse, head, feature in zip(
            self.prepare, self.fuse, self.heads, features[::-1]
        ):
            above = fused if not maps else resize_corners(fused, feature)
            fused = fuse(prepare(feature) + above)
            maps.insert(0, _logit(resize_corners(head(fused), x)))
        return tuple(maps)


def _logit(probability: Tensor) -> Tensor:
    """Invert the sigmoid."""
    p = probability.clip(SMALLEST, 1 - SMALLEST)
    return paddle.log(p / (1 - p))
