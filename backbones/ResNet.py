"""ResNet-18, -34 and -50 without their heads; keys equal paddle.vision.models.resnet*.

Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, table 1.
"""

from typing import List, Optional, Sequence, Type, Union

import paddle
from paddle import nn


class BasicBlock(nn.Layer):
    """Two 3x3 convolutions and the shortcut."""

    expansion = 1

    def __init__(self, in_c: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2D(in_c, width, 3, stride, 1, bias_attr=False)
        self.bn1 = nn.BatchNorm2D(width)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2D(width, width, 3, 1, 1, bias_attr=False)
        self.bn2 = nn.BatchNorm2D(width)
        self.downsample = _downsample(in_c, width, stride)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class BottleneckBlock(nn.Layer):
    """1x1, 3x3 (with the stride) and 1x1 convolutions, and the shortcut."""

    expansion = 4

    def __init__(self, in_c: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2D(in_c, width, 1, bias_attr=False)
        self.bn1 = nn.BatchNorm2D(width)
        self.conv2 = nn.Conv2D(width, width, 3, stride, 1, bias_attr=False)
        self.bn2 = nn.BatchNorm2D(width)
        self.conv3 = nn.Conv2D(width, width * 4, 1, bias_attr=False)
        self.bn3 = nn.BatchNorm2D(width * 4)
        self.relu = nn.ReLU()
        self.downsample = _downsample(in_c, width * 4, stride)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


def _downsample(in_c: int, out_c: int, stride: int) -> Optional[nn.Sequential]:
    """Build the projection of a shortcut whose shape changes; else None."""
    if stride == 1 and in_c == out_c:
        return None
    return nn.Sequential(nn.Conv2D(in_c, out_c, 1, stride, bias_attr=False), nn.BatchNorm2D(out_c))


class ResNet(nn.Layer):
    """Stem, max-pool and four stages of `depths` blocks each.

    forward maps [N, 3, H, W] to the stages' outputs, at strides 4, 8, 16 and 32.
    """

    def __init__(
        self, block: Union[Type[BasicBlock], Type[BottleneckBlock]], depths: Sequence[int]
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2D(3, 64, 7, 2, 3, bias_attr=False)
        self.bn1 = nn.BatchNorm2D(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2D(3, 2, 1)
        widths = (64, 128, 256, 512)
        self.channels = tuple(width * block.expansion for width in widths)
        in_channels = (64, *self.channels)
        for i, (width, depth) in enumerate(zip(widths, depths)):
            out_c, stride = self.channels[i], 1 if i == 0 else 2
            blocks = [block(in_channels[i], width, stride)]
            blocks += [block(out_c, width, 1) for _ in range(depth - 1)]
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))

    def forward(self, x: paddle.Tensor) -> List[paddle.Tensor]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        features = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            features.append(x)
        return features


def resnet18() -> ResNet:
    """Build ResNet-18: 64, 128, 256 and 512 channels."""
    return ResNet(BasicBlock, (2, 2, 2, 2))


def resnet34() -> ResNet:
    """Build ResNet-34: 64, 128, 256 and 512 channels."""
    return ResNet(BasicBlock, (3, 4, 6, 3))


def resnet50() -> ResNet:
    """Build ResNet-50: 256, 512, 1024 and 2048 channels."""
    return ResNet(BottleneckBlock, (3, 4, 6, 3))


ResNet34, ResNet50 = resnet34, resnet50  # the release's names
