"""ResNet-18, -34 and -50 without their heads: paddle.vision's own layers, under its keys.

Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, table 1.
"""

from typing import List

from paddle import Tensor
from paddle.vision.models import resnet


class ResNet(resnet.ResNet):
    """Stem, max-pool and the four stages of the ResNet of `depth` layers: 18, 34 or 50.

    forward maps [N, 3, H, W] to the stages' outputs, at strides 4, 8, 16 and 32.
    """

    def __init__(self, depth: int) -> None:
        block = resnet.BottleneckBlock if depth == 50 else resnet.BasicBlock
        super().__init__(block, depth, num_classes=0, with_pool=False)
        self.channels = tuple(width * block.expansion for width in (64, 128, 256, 512))

    def forward(self, x: Tensor) -> List[Tensor]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        features = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            features.append(x)
        return features


def resnet18() -> ResNet:
    """Build ResNet-18: 64, 128, 256 and 512 channels."""
    return ResNet(18)


def resnet34() -> ResNet:
    """Build ResNet-34: 64, 128, 256 and 512 channels."""
    return ResNet(34)


def resnet50() -> ResNet:
    """Build ResNet-50: 256, 512, 1024 and 2048 channels."""
    return ResNet(50)


ResNet34, ResNet50 = resnet34, resnet50  # the release's names
