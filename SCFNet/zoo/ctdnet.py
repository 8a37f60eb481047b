"""CTDNet: a semantic, a spatial and a boundary path, fused by complementary trilateral decoding.

Source: Zhao et al., "Complementary trilateral decoder for fast and accurate salient object
detection", ACM MM 2021. Its training, which is not repeated here: crops, flips, sizes from 224 to
352, Nesterov SGD at 0.05 (a tenth of that in the backbone), momentum 0.9, decay 5e-4, 40 epochs in
batches of 32, IoU and 0.6 times cross-entropy of the five maps with weights 1, 1/2, 1/4, 1/8, 1/16,
and cross-entropy of the edge map against an edge ground truth.
"""

from functools import partial
from typing import Tuple

import paddle
from paddle import Tensor, nn
from paddle.nn import functional as F

from backbones.ResNet import ResNet, resnet18, resnet50
from SCFNet.net import SaliencyNet
from SCFNet.zoo.layers import conv, global_mean, resize_corners

WIDTH = 64


_conv = partial(conv, out_c=WIDTH)


class SpatialPath(nn.Layer):
    """Features weighed pixel by pixel, by their mean and maximum over the channels."""

    def __init__(self, in_c: int) -> None:
        super().__init__()
        self.conv_atten = nn.Conv2D(2, 1, 3, padding=1, bias_attr=False)
        self.conv = _conv(in_c, kernel_size=3)
        self.bn = nn.BatchNorm2D(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        summary = [x.mean(1, keepdim=True), x.max(1, keepdim=True)]
        attention = F.sigmoid(self.conv_atten(paddle.concat(summary, 1)))
        return F.relu(self.bn(self.conv(x * attention)))


class Fusion(nn.Layer):
    """Two Conv3x3 - BN - ReLU on the product of two features of one size (FFM in the paper)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_1, self.bn_1 = _conv(WIDTH, kernel_size=3), nn.BatchNorm2D(WIDTH)
        self.conv_2, self.bn_2 = _conv(WIDTH, kernel_size=3), nn.BatchNorm2D(WIDTH)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        x = F.relu(self.bn_1(self.conv_1(a * b)))
        return F.relu(self.bn_2(self.conv_2(x)))


class CrossFusion(nn.Layer):
    """Fuses `high` [N, C, h, w] and `low` [N, C, H, W], about twice as large, at both sizes (CAM).

    forward gives [N, C, H, W].
    """

    def __init__(self) -> None:
        super().__init__()
        down = _conv(WIDTH, kernel_size=3, stride=2)
        self.down = nn.Sequential(down, nn.BatchNorm2D(WIDTH), nn.ReLU())
        self.conv_1, self.bn_1 = _conv(WIDTH, kernel_size=3), nn.BatchNorm2D(WIDTH)
        self.conv_2, self.bn_2 = _conv(WIDTH, kernel_size=3), nn.BatchNorm2D(WIDTH)
        self.mul = Fusion()

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        fine = F.relu(self.bn_1(self.conv_1(low * resize_corners(high, low))))
        coarse = F.relu(self.bn_2(self.conv_2(self.down(low) * high)))
        return self.mul(fine, resize_corners(coarse, low))


class BoundaryRefinement(nn.Layer):
    """Fuses features and their boundary, [N, C, H, W] each, channel by channel (BRM)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_atten = _conv(WIDTH, kernel_size=1)
        self.conv_1, self.bn_1 = _conv(WIDTH, kernel_size=3), nn.BatchNorm2D(WIDTH)
        self.conv_2, self.bn_2 = _conv(WIDTH, kernel_size=3), nn.BatchNorm2D(WIDTH)

    def forward(self, x: Tensor, boundary: Tensor) -> Tensor:
        total = x + boundary
        attention = F.sigmoid(self.conv_atten(global_mean(total)))
        x = F.relu(self.bn_1(self.conv_1(total * attention + total)))
        return F.relu(self.bn_2(self.conv_2(x)))


class CTDNet(SaliencyNet):
    """forward maps [N, 3, H, W] to five logits from fine to coarse, [N, 1, H, W] each.

    `forward_with_edge` also gives the logits of the boundary, which need a ground truth of their
    own: no loss of this repository teaches them.
    """

    def __init__(self, model_type: str, bkbone: ResNet) -> None:
        super().__init__()
        self.model_type = model_type
        self.bkbone = bkbone
        c2, c3, c4, c5 = bkbone.channels
        self.path1_1 = nn.Sequential(_conv(c5, kernel_size=1), nn.BatchNorm2D(WIDTH))
        self.path1_2 = nn.Sequential(_conv(c5, kernel_size=1), nn.BatchNorm2D(WIDTH), nn.ReLU())
        self.path1_3 = nn.Sequential(_conv(c4, kernel_size=1), nn.BatchNorm2D(WIDTH), nn.ReLU())
        self.path2 = SpatialPath(c3)
        self.path3 = nn.Sequential(_conv(c2, kernel_size=1), nn.BatchNorm2D(WIDTH), nn.ReLU())
        self.fuse1_1 = Fusion()
        self.fuse1_2 = Fusion()
        self.fuse12 = CrossFusion()
        self.fuse3 = Fusion()
        self.fuse23 = BoundaryRefinement()
        for head in ("1", "2", "3", "4", "5", "edge"):
            setattr(self, f"head_{head}", nn.Conv2D(WIDTH, 1, 3, padding=1))

    def forward(self, x: Tensor) -> Tuple[Tensor, ...]:
        return self.forward_with_edge(x)[0]

    def forward_with_edge(self, x: Tensor) -> Tuple[Tuple[Tensor, ...], Tensor]:
        """Map photos to the five logits of `forward`, and to those of the boundary [N, 1, H, W]."""
        f2, f3, f4, f5 = self.bkbone(x)
        context = self.path1_1(global_mean(f5)).expand([-1, -1, *f5.shape[2:]])
        deep = resize_corners(self.fuse1_1(context, self.path1_2(f5)), f4)
        semantic = self.fuse1_2(deep, self.path1_3(f4))
        fused = resize_corners(self.fuse12(semantic, self.path2(f3)), f2)
        boundary = self.fuse3(self.path3(f2), resize_corners(deep, f2))
        refined = self.fuse23(fused, boundary)
        maps = (
            self.head_1(refined),
            self.head_2(fused),
            self.head_3(semantic),
            self.head_4(deep),
            self.head_5(context),
        )
        edge = resize_corners(self.head_edge(boundary), x)
        return tuple(resize_corners(logits, x) for logits in maps), edge


def ctdnet18() -> CTDNet:
    """Build CTDNet on ResNet-18: 11.8 M parameters."""
    return CTDNet("CTDNet18", resnet18())


def ctdnet50() -> CTDNet:
    """Build CTDNet on ResNet-50: 24.6 M parameters, the one of the KD-SCFNet paper's tables."""
    return CTDNet("CTDNet50", resnet50())
