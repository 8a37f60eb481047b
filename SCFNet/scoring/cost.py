"""What a network costs: parameters, FLOPs and multiply-adds, as the paper's tables count."""

import contextlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, NamedTuple, Optional

import numpy as np

from datasets.files import PathLike

if TYPE_CHECKING:
    import paddle

    from SCFNet.net import SCFNet


class Cost(NamedTuple):
    """Size of a method: parameters, and FLOPs of one image as the paper counts (multiply-adds).

    `model` is the backbone's name where it is a network of this repository.
    """

    params: Optional[float]
    flops: Optional[float]
    model: Optional[str] = None


NO_COST = Cost(None, None)


def cost_of(weights: PathLike) -> Cost:
    """The cost of the network in a checkpoint; not known of an exported file (.onnx).

    Raises InputError where it is none.
    """
    if Path(weights).suffix == ".onnx":
        return NO_COST
    from SCFNet.checkpoint import load_net

    net = load_net(weights)
    counted = cost(net)
    return Cost(counted["params"], counted["flops"], net.model_type)


def cost(net: "SCFNet") -> Dict[str, int]:
    """What one image of `net.input_size` costs, as the paper's tables count.

    `params` and `flops` are the numbers of `paddle.flops`: parameters with BatchNorm statistics,
    of the layers that run and have no children (so without Swin's tables of position biases), and
    operations of which a multiply-add is one. `maccs` are the multiply-adds of convolutions and
    linear layers alone.
    """
    import paddle
    from paddle import nn

    params: Dict[int, int] = {}
    maccs: List[int] = []

    def count(layer: "paddle.nn.Layer", inputs: object, output: "paddle.Tensor") -> None:
        params[id(layer)] = sum(int(p.size) for p in layer.parameters())
        if isinstance(layer, nn.Conv2D):
            maccs.append(int(output.size) * int(np.prod(layer.weight.shape[1:])))
        elif isinstance(layer, nn.Linear):
            maccs.append(int(output.size) * layer.weight.shape[0])

    leaves = [layer for layer in net.sublayers() if not layer.sublayers()]
    hooks = [layer.register_forward_post_hook(count) for layer in leaves]
    net.eval()
    with contextlib.redirect_stdout(io.StringIO()), paddle.no_grad():
        flops = paddle.flops(net, (1, 3, net.input_size, net.input_size))
    for hook in hooks:
        hook.remove()
    return {"params": sum(params.values()), "flops": int(flops), "maccs": sum(maccs)}
