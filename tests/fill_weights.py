"""The rule that gives a network the weights with which the reference numbers were computed.

Each tensor is drawn from a generator seeded by its key, so that no checkpoint of R50 or ST is
needed here. Constants of the architecture stay as they are.
"""

import zlib
from typing import Sequence

import numpy as np

CONSTANTS = ("attn_mask", "relative_position_index")


def weight_for(key: str, shape: Sequence[int], seed: str = "", gain: float = 1.0) -> np.ndarray:
    """The float32 array of `shape` for the state-dict key `key`, drawn by `seed`, by default `key`.

    `gain` scales the variance of convolutions.
    """
    rng = np.random.default_rng(zlib.crc32((seed or key).encode()))
    if key.endswith("_variance"):
        value = rng.uniform(0.5, 1.5, shape)
    elif key.endswith(("_mean", "bias", "relative_position_bias_table")):
        value = 0.1 * rng.standard_normal(shape)
    elif len(shape) == 1:
        value = rng.uniform(0.5, 1.5, shape)
    else:
        fan_in = np.prod(shape[1:]) if len(shape) == 4 else shape[0]
        value = rng.standard_normal(shape) * np.sqrt(gain / fan_in)
    return np.asarray(value, "float32")


def fill(net) -> None:
    """Give every tensor of `net` the rule's values."""
    for key, tensor in net.state_dict().items():
        if not key.endswith(CONSTANTS):
            tensor.set_value(weight_for(key, list(tensor.shape)))


GAINS = {
    "U2Net": 1.2,
    "U2Netp": 1.2,
    "SAMNet": 1.2,
    "GCPANet": 0.92,
    "CTDNet18": 0.95,
    "CTDNet50": 0.92,
}


def fill_zoo(net) -> None:
    """Give every tensor of a network of SCFNet.zoo the values of its reference: those of `fill`,
    drawn by the original's key, but for the scale of convolutions."""
    for key, tensor in net.state_dict().items():
        original = key.replace("._mean", ".running_mean").replace("._variance", ".running_var")
        value = weight_for(key, list(tensor.shape), original, GAINS[net.model_type])
        tensor.set_value(value.astype(str(tensor.dtype).rsplit(".", 1)[-1]))


def noise(name):
    """The input of a reference's name, as "1x96x128_seed0": Gaussian, float32 [N, 3, H, W]."""
    size, seed = name.split("_seed")
    n, h, w = map(int, size.split("x"))
    return np.random.default_rng(int(seed)).standard_normal((n, 3, h, w)).astype("float32")
