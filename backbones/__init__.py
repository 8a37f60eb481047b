"""The backbones by name: `build_backbone('R50')` returns the feature extractor of a model type.

Paddle is imported only when a backbone is built.
"""

import importlib
import zlib  # noqa: F401  before paddle; see SCFNet/__init__.py
from typing import TYPE_CHECKING, Dict, Tuple

if TYPE_CHECKING:
    import paddle

BACKBONES: Dict[str, Tuple[str, str]] = {
    "M3_0.5": ("backbones.MobileNetV3", "mobilenet_v3_large_x0_5"),
    "R50": ("backbones.ResNet", "resnet50"),
    "R34": ("backbones.ResNet", "resnet34"),
    "V16": ("backbones.VGG", "vgg16"),
    "ST": ("backbones.SwinT", "swin_base_384"),
    "EL0": ("backbones.EfficientNetLite", "efficientnet_lite0"),
    "EL2": ("backbones.EfficientNetLite", "efficientnet_lite2"),
}


def build_backbone(name: str) -> "paddle.nn.Layer":
    """Build the backbone of model type `name`, with random weights.

    The layer has `channels`, the four channel counts from shallow to deep, and maps images
    [N, 3, H, W] to the list of these four feature maps.

    Raises ValueError, which lists the known names, for any other name.
    """
    if name not in BACKBONES:
        raise ValueError(f"unknown backbone {name!r}: choose from {', '.join(BACKBONES)}")
    module, function = BACKBONES[name]
    return getattr(importlib.import_module(module), function)()
