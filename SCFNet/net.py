"""The network: a backbone, the mapping module, three SCFMs and a head per level (paper section 3).

Three ways to build it, none of which reads a file:

    SCFNet(backbone="R50")
    SCFNet(1, "M3_0.5")      # the AI Studio notebook; the first argument is ignored
    SCFNet(cfg)              # the GitHub release: anything with `cfg.model_type`
"""

import warnings
from typing import Any, List, Optional, Tuple

import paddle
from paddle import Tensor, nn
from paddle.nn import functional as F

from backbones import build_backbone
from SCFNet.photos.transform import EFFICIENTNET, RELEASE, Normalisation

BACKBONE_LR_SCALE = 0.1  # the release trains the backbone at a tenth of the rest's rate
DECODERS = ("scfm", "base")
DECODER_WIDTHS = {"M3_0.5": 16, "EL0": 32, "EL2": 32}  # channels; of the others 64
NORMALISATIONS = {"EL0": EFFICIENTNET, "EL2": EFFICIENTNET}  # of the others the release's


def conv_bn_relu(in_c: int, out_c: int, dilation: int = 1) -> nn.Sequential:
    """Build Conv3x3 - BN - ReLU, Kaiming normal with zero bias."""
    return nn.Sequential(
        nn.Conv2D(
            in_c,
            out_c,
            3,
            padding=dilation,
            dilation=dilation,
            weight_attr=nn.initializer.KaimingNormal(),
            bias_attr=nn.initializer.Constant(0.0),
        ),
        nn.BatchNorm2D(out_c),
        nn.ReLU(),
    )


def resize_to(x: Tensor, reference: Tensor, align_corners: bool = False) -> Tensor:
    """Resize `x` [N, C, h, w] bilinearly to the height and width of `reference`, half-pixel unless
    `align_corners`.
    """
    return F.interpolate(x, reference.shape[2:], mode="bilinear", align_corners=align_corners)


class SaliencyNet(nn.Layer):
    """The base of every network of this repository.

    `forward` maps normalised photos [N, 3, H, W] to logits [N, 1, H, W], the finest map, which is
    the answer, first. `model_type` is the network's name, `input_size` the height and width that
    it is made for, `normalisation` what photos get before it.
    """

    model_type: str
    input_size: int = 352
    normalisation: Normalisation = RELEASE

    def predict(self, x: Tensor) -> Tensor:
        """Map normalised photos [N, 3, H, W] to saliency maps [N, 1, H, W] in [0, 1]."""
        return F.sigmoid(self(x)[0])

    def scale_backbone_lr(self, scale: float) -> None:
        """Set the backbone's learning rate to `scale` times the rest's, in any optimizer."""
        for name, parameter in self.named_parameters():
            if name.startswith("bkbone."):
                parameter.optimize_attr["learning_rate"] = scale

    def load_dict(self, state_dict: dict) -> Tuple[List[str], List[str]]:
        """Return `set_state_dict(state_dict)`: the notebook's name for it."""
        return self.set_state_dict(state_dict)


class MappingModule(nn.Layer):
    """Maps the four feature levels to `out_c` channels each."""

    def __init__(self, channels: Tuple[int, ...], out_c: int) -> None:
        super().__init__()
        self.cv1, self.cv2, self.cv3, self.cv4 = (conv_bn_relu(c, out_c) for c in channels)

    def forward(self, features: List[Tensor]) -> List[Tensor]:
        mappings = (self.cv1, self.cv2, self.cv3, self.cv4)
        return [mapping(feature) for mapping, feature in zip(mappings, features)]


class SCFM(nn.Layer):
    """Semantics-guided contextual fusion of three levels [N, C, h, w] (paper section 3.2).

    Which level multiplies which is not told alike by the paper's text and the release's code. This
    is the code's way, as the published weights were trained so: the deepest level multiplies
    `high`, and `high`, as it came in, multiplies `low`; each product is added to its second factor.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cv1 = conv_bn_relu(channels, channels)
        self.cv2 = conv_bn_relu(channels, channels)
        self.cv3 = conv_bn_relu(channels, channels)

    def forward(self, low: Tensor, high: Tensor, deepest: Tensor) -> Tensor:
        """`low` is this level, `high` the fused level above it, `deepest` the deepest one."""
        a = self.cv1(high + high * resize_to(deepest, high))
        b = self.cv2(low + low * resize_to(high, low))
        return self.cv3(b + resize_to(a, low))


class SCFNet(SaliencyNet):
    """The salient-object network. forward maps normalised images [N, 3, H, W] to the logits
    (m2, m3, m4, m5), [N, 1, H, W] each; sigmoid(m2) is the saliency map.

    `args` are the release's ways to call it (see the head of this file). `backbone` is one of
    `backbones.BACKBONES`, by default 'M3_0.5'; `decoder` is 'scfm', or 'base', the baseline of the
    paper's Table 3: the mapped levels "concatenated channel-wise and compressed into a saliency map
    by a 3x3 convolution", whose forward gives (m2,). Raises ValueError for unknown names.

    All weights are random: `tools/train.py` begins with ImageNet's in the backbone. The release's
    `SCFNet(cfg)` loaded them by itself; here its first `train()` warns unless a state dict was set.
    """

    def __init__(
        self, *args: object, backbone: Optional[str] = None, decoder: str = "scfm"
    ) -> None:
        super().__init__()
        if decoder not in DECODERS:
            raise ValueError(f"unknown decoder {decoder!r}: choose from {', '.join(DECODERS)}")
        self._expects_imagenet = len(args) == 1
        if len(args) == 1:
            cfg: Any = args[0]
            backbone = cfg.model_type
        elif len(args) == 2:
            backbone = str(args[1])
        elif len(args) > 2:
            raise TypeError(
                f"SCFNet takes (cfg) or (anything, model_type), not {len(args)} arguments"
            )
        self.model_type = backbone or "M3_0.5"
        self.decoder = decoder
        self.input_size = 384 if self.model_type == "ST" else 352
        self.normalisation = NORMALISATIONS.get(self.model_type, RELEASE)
        in_c = DECODER_WIDTHS.get(self.model_type, 64)

        self.bkbone = build_backbone(self.model_type)
        self.scale_backbone_lr(BACKBONE_LR_SCALE)
        self.mp = MappingModule(self.bkbone.channels, in_c)
        if decoder == "base":
            self.linear2 = nn.Conv2D(4 * in_c, 1, 3, padding=1)
            return
        self.cv1 = conv_bn_relu(in_c, in_c, dilation=5)
        self.de1, self.de2, self.de3 = SCFM(in_c), SCFM(in_c), SCFM(in_c)
        for level in (2, 3, 4, 5):
            setattr(self, f"linear{level}", nn.Conv2D(in_c, 1, 3, padding=1))

    def train(self) -> None:
        """Put the network into training mode; see the class for the warning."""
        super().train()
        if self._expects_imagenet:
            self._expects_imagenet = False
            warnings.warn(
                "SCFNet(cfg) starts from random weights, not from ImageNet as in the release: give "
                "it weights by set_state_dict, or train by tools/train.py",
                stacklevel=2,
            )

    def set_state_dict(
        self, state_dict: dict, use_structured_name: bool = True
    ) -> Tuple[List[str], List[str]]:
        """Load a state dict as every Paddle layer does; returns missing and unexpected keys."""
        self._expects_imagenet = False
        return super().set_state_dict(state_dict, use_structured_name)

    def forward(self, x: Tensor) -> Tuple[Tensor, ...]:
        f2, f3, f4, f5 = self.mp(self.bkbone(x))
        if self.decoder == "base":
            levels = [f2] + [resize_to(f, f2) for f in (f3, f4, f5)]
            return (resize_to(self.linear2(paddle.concat(levels, 1)), x),)
        f5 = self.cv1(f5)
        f4 = self.de3(f4, f5, f5)
        f3 = self.de2(f3, f4, f5)
        f2 = self.de1(f2, f3, f5)
        return (
            resize_to(self.linear2(f2), x),
            resize_to(self.linear3(f3), x),
            resize_to(self.linear4(f4), x),
            resize_to(self.linear5(f5), x),
        )
