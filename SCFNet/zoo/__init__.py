"""Every network of this repository by name: SCFNet on its backbones, and other published ones.

A file each holds the others: U2Net, SAMNet, GCPANet and CTDNet, with the keys of their published
PyTorch files. Nothing here imports Paddle before a network is built.
"""

import importlib
from typing import TYPE_CHECKING, Any, Dict, Mapping, Tuple

from backbones import BACKBONES
from SCFNet.errors import InputError

if TYPE_CHECKING:
    from SCFNet.net import SaliencyNet

ZOO: Dict[str, Tuple[str, str]] = {
    "U2Net": ("SCFNet.zoo.u2net", "u2net"),
    "U2Netp": ("SCFNet.zoo.u2net", "u2netp"),
    "SAMNet": ("SCFNet.zoo.samnet", "SAMNet"),
    "GCPANet": ("SCFNet.zoo.gcpanet", "GCPANet"),
    "CTDNet18": ("SCFNet.zoo.ctdnet", "ctdnet18"),
    "CTDNet50": ("SCFNet.zoo.ctdnet", "ctdnet50"),
}
NETWORKS: Tuple[str, ...] = (*BACKBONES, *ZOO)

# Keys that only files of that network have all of, the more specific before the less.
SIGNATURES: Dict[str, Tuple[str, ...]] = {
    "U2Net": ("stage1.rebnconvin.conv_s1.weight",),
    "SAMNet": ("context_path.layer1.0.conv.0.weight",),
    "GCPANet": ("ca45.conv0.weight",),
    "CTDNet50": ("path1_1.0.weight", "bkbone.layer1.0.conv3.weight"),
    "CTDNet18": ("path1_1.0.weight",),
    "M3_0.5": ("bkbone.blocks.0.expand_conv.conv.weight",),
    "R50": ("bkbone.layer1.0.conv3.weight",),
    "R34": ("bkbone.layer1.0.conv2.weight",),
    "V16": ("bkbone.features.0.weight",),
    "ST": ("bkbone.patch_embed.proj.weight",),
    "EL2": ("bkbone._conv_stem.weight", "bkbone._blocks.20._project_conv.weight"),
    "EL0": ("bkbone._conv_stem.weight",),
}
U2NET_INNER = "stage1.rebnconv1.conv_s1.weight"  # [32, ...] in U2Net, [16, ...] in U2Netp


def build_network(name: str, decoder: str = "scfm") -> "SaliencyNet":
    """Build the network `name`, one of NETWORKS, with random weights; `decoder` is SCFNet's.

    Raises ValueError, which lists the known names, for any other name.
    """
    if name in BACKBONES:
        from SCFNet.net import SCFNet

        return SCFNet(backbone=name, decoder=decoder)
    if name not in ZOO:
        raise ValueError(f"unknown network {name!r}: choose from {', '.join(NETWORKS)}")
    module, function = ZOO[name]
    return getattr(importlib.import_module(module), function)()


def detect_network(state: Mapping[str, Any]) -> str:
    """Name the network, one of NETWORKS, whose state dict {key: array} this is.

    Raises InputError if it is none of them.
    """
    for name, keys in SIGNATURES.items():
        if all(key in state for key in keys):
            inner = list(state[U2NET_INNER].shape) if U2NET_INNER in state else []
            return "U2Netp" if inner[:1] == [16] else name
    some = ", ".join(list(state)[:3])
    raise InputError(f"is of none of the networks {', '.join(NETWORKS)}: its keys are {some}, ...")
