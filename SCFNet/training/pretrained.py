"""What a network starts from: ImageNet weights of its backbone, or any file with weights."""

from typing import Dict

import paddle

from datasets.files import InputError
from SCFNet.checkpoint import CheckpointError, assign_weights, load_checkpoint
from SCFNet.net import SCFNet

HAPI = "https://paddle-hapi.bj.bcebos.com/models/"
CLAS = "https://paddle-imagenet-models-name.bj.bcebos.com/dygraph/"
IMAGENET: Dict[str, str] = {
    "M3_0.5": CLAS + "legendary_models/MobileNetV3_large_x0_5_pretrained.pdparams",
    "R50": HAPI + "resnet50.pdparams",
    "R34": HAPI + "resnet34.pdparams",
    "V16": HAPI + "vgg16.pdparams",
    "ST": CLAS
    + "legendary_models/SwinTransformer_base_patch4_window12_384_22kto1k_pretrained.pdparams",
}
PREFIX = "bkbone."


def load_pretrained(net: SCFNet, source: str) -> None:
    """Put the starting weights into `net`: 'none' leaves it as it is, 'imagenet' fetches those of
    its backbone with Paddle's downloader, anything else is a file with the weights of a whole
    network, or of a backbone (keys without `bkbone.`, whose classifier is not used).

    Raises CheckpointError where the file cannot be read or is of another backbone, and InputError
    that says which file to put where, where it cannot be fetched.
    """
    if source == "none":
        return
    path = fetch(net.model_type) if source == "imagenet" else source
    state = load_checkpoint(path)
    if not any(key.startswith(PREFIX) for key in state):
        state = {PREFIX + key: value for key, value in state.items()}
    own = net.state_dict()
    wanted = [key for key in own if key.startswith(PREFIX)]
    lacking = [k for k in wanted if k not in state or list(state[k].shape) != list(own[k].shape)]
    if lacking:
        raise CheckpointError(
            f"{path}: is not of --backbone {net.model_type}: {len(lacking)} of its {len(wanted)} "
            f"weights are missing or of another shape, first {lacking[0]}"
        )
    if all(key in state for key in own):
        assign_weights(net, state, str(path))
    else:
        assign_weights(net.bkbone, {k[len(PREFIX) :]: state[k] for k in wanted}, str(path))


def fetch(backbone: str) -> str:
    """The path of the ImageNet weights of `backbone`, fetched where they are not there yet."""
    url = IMAGENET[backbone]
    folder = paddle.utils.download.WEIGHTS_HOME
    try:
        return paddle.utils.download.get_weights_path_from_url(url)
    except Exception as error:
        raise InputError(
            f"--pretrained imagenet: {url} cannot be fetched ({type(error).__name__}): put that "
            f"file into {folder}, or name it: --pretrained FILE (or none, to start from scratch)"
        ) from error
