"""VGG-16 without its head: paddle.vision's own layers, under its keys.

Source: Simonyan and Zisserman, "Very Deep Convolutional Networks", ICLR 2015, table 1, column D.
"""

from typing import List

from paddle import Tensor, nn
from paddle.vision import models


class VGG16(nn.Layer):
    """The thirteen convolutions of VGG-16.

    forward maps [N, 3, H, W] to conv2_2, conv3_3, conv4_3 and conv5_3, at strides 2, 4, 8 and 16.
    These taps are our choice: neither the paper nor the release says where VGG's are.
    """

    channels = (128, 256, 512, 512)

    def __init__(self) -> None:
        super().__init__()
        whole = models.vgg16(num_classes=0, with_pool=False)
        self.features = whole.features[:-1]  # nothing reads the last pool

    def forward(self, x: Tensor) -> List[Tensor]:
        features = []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2D):
                features.append(x)
            x = layer(x)
        return [*features[1:], x]


def vgg16() -> VGG16:
    """Build VGG-16: 128, 256, 512 and 512 channels."""
    return VGG16()
