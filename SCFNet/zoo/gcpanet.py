"""GCPANet: global context flows into every level of the decoder.

Source: Chen et al., "Global context-aware progressive aggregation network for salient object
detection", AAAI 2020. Its training, which is not repeated here: resized to 320, cropped to 288,
Nesterov SGD, momentum 0.9, decay 5e-4, 30 epochs in batches of 32, a triangle of rates (0.05 at
most, a tenth in the backbone), cross-entropy of the four maps with weights 1, .8, .6, .4.
"""

from functools import partial
from typing import Tuple

import paddle
from paddle import Tensor, nn
from paddle.nn import functional as F

from backbones.ResNet import resnet50
from SCFNet.net import SaliencyNet, resize_to
from SCFNet.zoo.layers import conv, global_mean

WIDTH = 256


_conv3 = partial(conv, out_c=WIDTH, kernel_size=3, bias=True)


class ChannelAttention(nn.Layer):
    """Weighs the channels of one level by the global context of another (GCF in the paper)."""

    def __init__(self, in_c: int, context_c: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2D(in_c, WIDTH, 1)
        self.bn0 = nn.BatchNorm2D(WIDTH)
        self.conv1 = nn.Conv2D(context_c, WIDTH, 1)
        self.conv2 = nn.Conv2D(WIDTH, WIDTH, 1)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        weights = self.conv2(F.relu(self.conv1(global_mean(context))))
        return F.relu(self.bn0(self.conv0(x))) * F.sigmoid(weights)


class SelfAttention(nn.Layer):
    """Scales and shifts the deepest features by maps that are drawn from themselves."""

    def __init__(self, in_c: int) -> None:
        super().__init__()
        self.conv0 = _conv3(in_c)
        self.bn0 = nn.BatchNorm2D(WIDTH)
        self.conv2 = _conv3(in_c, out_c=2 * WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        scale, shift = self.conv2(x).split(2, axis=1)
        return F.relu(scale * F.relu(self.bn0(self.conv0(x))) + shift)


class SelfRefinement(nn.Layer):
    """Convolves a level, then scales and shifts it by maps that are drawn from the result."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _conv3(WIDTH)
        self.bn1 = nn.BatchNorm2D(WIDTH)
        self.conv2 = _conv3(WIDTH, out_c=2 * WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        scale, shift = self.conv2(x).split(2, axis=1)
        return F.relu(scale * x + shift)


class FeatureAggregation(nn.Layer):
    """Fuses this level (`low`), the level above (`high`) and the global context (FIA)."""

    def __init__(self, low_c: int) -> None:
        super().__init__()
        self.conv0, self.bn0 = _conv3(low_c), nn.BatchNorm2D(WIDTH)
        self.conv1, self.bn1 = _conv3(WIDTH), nn.BatchNorm2D(WIDTH)
        self.conv2, self.bn2 = _conv3(WIDTH), nn.BatchNorm2D(WIDTH)
        self.conv_d1, self.conv_d2, self.conv_l = _conv3(WIDTH), _conv3(WIDTH), _conv3(WIDTH)
        self.conv3, self.bn3 = _conv3(3 * WIDTH), nn.BatchNorm2D(WIDTH)

    def forward(self, low: Tensor, high: Tensor, context: Tensor) -> Tensor:
        low = F.relu(self.bn0(self.conv0(low)))
        high = F.relu(self.bn1(self.conv1(high)))
        context = F.relu(self.bn2(self.conv2(context)))
        fused = [
            F.relu(self.conv_l(low) * resize_to(high, low)),
            F.relu(resize_to(self.conv_d1(high), low) * low),
            F.relu(resize_to(self.conv_d2(context), low) * low),
        ]
        return F.relu(self.bn3(self.conv3(paddle.concat(fused, 1))))


class GCPANet(SaliencyNet):
    """forward maps [N, 3, H, W] to the logits (out2, out3, out4, out5), [N, 1, H, W] each."""

    model_type = "GCPANet"
    input_size = 320

    def __init__(self) -> None:
        super().__init__()
        self.bkbone = resnet50()
        c2, c3, c4, c5 = self.bkbone.channels
        self.ca45 = ChannelAttention(c5, c5)
        self.ca35 = ChannelAttention(c5, c5)
        self.ca25 = ChannelAttention(c5, c5)
        self.ca55 = ChannelAttention(WIDTH, c5)
        self.sa55 = SelfAttention(c5)
        self.fam45 = FeatureAggregation(c4)
        self.fam34 = FeatureAggregation(c3)
        self.fam23 = FeatureAggregation(c2)
        for level in (5, 4, 3, 2):
            setattr(self, f"srm{level}", SelfRefinement())
        for level in (5, 4, 3, 2):
            setattr(self, f"linear{level}", _conv3(WIDTH, out_c=1))

    def forward(self, x: Tensor) -> Tuple[Tensor, ...]:
        f2, f3, f4, f5 = self.bkbone(x)
        x5 = self.srm5(self.ca55(self.sa55(f5), f5))
        x4 = self.srm4(self.fam45(f4, x5, self.ca45(f5, f5)))
        x3 = self.srm3(self.fam34(f3, x4, self.ca35(f5, f5)))
        x2 = self.srm2(self.fam23(f2, x3, self.ca25(f5, f5)))
        maps = (self.linear2(x2), self.linear3(x3), self.linear4(x4), self.linear5(x5))
        return tuple(resize_to(logits, x) for logits in maps)
