"""U2Net and its small sibling U2Netp: a U whose every stage is a U of its own.

Source: Qin et al., "U2-Net: Going deeper with nested U-structure for salient object detection",
Pattern Recognition 2020. Its training, which is not repeated here: from scratch, resized to
320x320, cropped to 288, flipped upside down, batches of 12, Adam at 1e-3, the sum of seven
cross-entropies.
"""

from functools import partial
from typing import Dict, Sequence, Tuple

import paddle
from paddle import Tensor, nn

from SCFNet.net import SaliencyNet, resize_to
from SCFNet.photos.transform import IMAGENET
from SCFNet.zoo.layers import conv

Stages = Dict[str, Tuple[str, int, int, int]]  # name: kind; input, inner, output channels
U2NET: Stages = {
    "stage1": ("RSU7", 3, 32, 64),
    "stage2": ("RSU6", 64, 32, 128),
    "stage3": ("RSU5", 128, 64, 256),
    "stage4": ("RSU4", 256, 128, 512),
    "stage5": ("RSU4F", 512, 256, 512),
    "stage6": ("RSU4F", 512, 256, 512),
    "stage5d": ("RSU4F", 1024, 256, 512),
    "stage4d": ("RSU4", 1024, 128, 256),
    "stage3d": ("RSU5", 512, 64, 128),
    "stage2d": ("RSU6", 256, 32, 64),
    "stage1d": ("RSU7", 128, 16, 64),
}
U2NETP: Stages = {
    name: (kind, 3 if name == "stage1" else 128 if name.endswith("d") else 64, 16, 64)
    for name, (kind, *_) in U2NET.items()
}
LEVELS = (1, 2, 3, 4, 5, 6)

# Dilation at each level, the bottom last. RSU4F stays at one size, the others halve it.
DILATIONS = {
    "RSU7": (1, 1, 1, 1, 1, 1, 2),
    "RSU6": (1, 1, 1, 1, 1, 2),
    "RSU5": (1, 1, 1, 1, 2),
    "RSU4": (1, 1, 1, 2),
    "RSU4F": (1, 2, 4, 8),
}


_conv = partial(conv, bias=True, torch_init=True)


class ConvUnit(nn.Layer):
    """Conv3x3 - BN - ReLU."""

    def __init__(self, in_c: int, out_c: int, dilation: int) -> None:
        super().__init__()
        self.conv_s1 = _conv(in_c, out_c, 3, dilation=dilation)
        self.bn_s1 = nn.BatchNorm2D(out_c)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn_s1(self.conv_s1(x)))


class ResidualUBlock(nn.Layer):
    """A U of convolutions, whose result is added to its first one's (RSU in the paper)."""

    def __init__(self, kind: str, in_c: int, mid_c: int, out_c: int) -> None:
        super().__init__()
        dilations = DILATIONS[kind]
        self.depth = len(dilations)
        self.halves = kind != "RSU4F"
        self.pool = nn.MaxPool2D(2, 2, ceil_mode=True)
        self.rebnconvin = ConvUnit(in_c, out_c, 1)
        for level, dilation in enumerate(dilations, 1):
            unit = ConvUnit(out_c if level == 1 else mid_c, mid_c, dilation)
            setattr(self, f"rebnconv{level}", unit)
        for level in range(self.depth - 1, 0, -1):
            unit = ConvUnit(2 * mid_c, out_c if level == 1 else mid_c, dilations[level - 1])
            setattr(self, f"rebnconv{level}d", unit)

    def forward(self, x: Tensor) -> Tensor:
        start = x = self.rebnconvin(x)
        skips = []
        for level in range(1, self.depth):
            if self.halves and level > 1:
                x = self.pool(x)
            x = getattr(self, f"rebnconv{level}")(x)
            skips.append(x)
        x = getattr(self, f"rebnconv{self.depth}")(x)
        for level in range(self.depth - 1, 0, -1):
            skip = skips[level - 1]
            if self.halves and level < self.depth - 1:
                x = resize_to(x, skip)
            x = getattr(self, f"rebnconv{level}d")(paddle.concat([x, skip], 1))
        return x + start


class U2Net(SaliencyNet):
    """The network of the `stages`. forward maps [N, 3, H, W] to the seven logits (d0, d1, .. d6),
    [N, 1, H, W] each: the fused map, then the side maps from fine to coarse.
    """

    input_size = 320
    normalisation = IMAGENET._replace(by_max=True)

    def __init__(self, model_type: str, stages: Stages) -> None:
        super().__init__()
        self.model_type = model_type
        for name, stage in stages.items():
            setattr(self, name, ResidualUBlock(*stage))
        for level in LEVELS:
            source = f"stage{level}d" if level < len(LEVELS) else f"stage{level}"
            setattr(self, f"side{level}", _conv(stages[source][-1], 1, 3))
        self.outconv = _conv(len(LEVELS), 1, 1)
        self.pool = nn.MaxPool2D(2, 2, ceil_mode=True)

    def forward(self, x: Tensor) -> Sequence[Tensor]:
        image = x
        encoded = []
        for level in LEVELS:
            x = getattr(self, f"stage{level}")(x if level == 1 else self.pool(x))
            encoded.append(x)
        sides = [resize_to(self.side6(x), image)]
        for level in reversed(LEVELS[:-1]):
            skip = encoded[level - 1]
            x = getattr(self, f"stage{level}d")(paddle.concat([resize_to(x, skip), skip], 1))
            side = getattr(self, f"side{level}")(x)
            sides.insert(0, side if level == 1 else resize_to(side, image))
        return (self.outconv(paddle.concat(sides, 1)), *sides)


def u2net() -> U2Net:
    """Build U2Net: 44.0 M parameters."""
    return U2Net("U2Net", U2NET)


def u2netp() -> U2Net:
    """Build U2Netp: 1.13 M parameters, the "U2Net" of the KD-SCFNet paper's tables."""
    return U2Net("U2Netp", U2NETP)
