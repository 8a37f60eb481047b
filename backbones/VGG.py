"""VGG-16 without its head; keys equal paddle.vision.models.vgg16's `features`.

Source: Simonyan and Zisserman, "Very Deep Convolutional Networks", ICLR 2015, table 1, column D.
"""

from typing import List

import paddle
from paddle import nn

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels, convolutions


class VGG16(nn.Layer):
    """The thirteen convolutions of VGG-16.

    forward maps [N, 3, H, W] to conv2_2, conv3_3, conv4_3 and conv5_3, at strides 2, 4, 8 and 16.
    These taps are our choice: neither the paper nor the release says where VGG's are.
    """

    channels = (128, 256, 512, 512)

    def __init__(self) -> None:
        super().__init__()
        layers: List[nn.Layer] = []
        in_c = 3
        for width, depth in STAGES:
            for _ in range(depth):
                layers += [nn.Conv2D(in_c, width, 3, padding=1), nn.ReLU()]
                in_c = width
            layers.append(nn.MaxPool2D(2, 2))
        self.features = nn.Sequential(*layers[:-1])  # nothing reads the last pool

    def forward(self, x: paddle.Tensor) -> List[paddle.Tensor]:
        features = []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2D):
                features.append(x)
            x = layer(x)
        return [*features[1:], x]


def vgg16() -> VGG16:
    """Build VGG-16: 128, 256, 512 and 512 channels."""
    return VGG16()
