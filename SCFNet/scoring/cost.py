"""What a network costs: parameters, FLOPs and multiply-adds, as the paper's tables count."""

import contextlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from backbones import BACKBONES
from SCFNet.files import PathLike

if TYPE_CHECKING:
    import paddle

    from SCFNet.net import SaliencyNet


class Cost(NamedTuple):
    """Size of a method: parameters, and FLOPs of one image as the paper counts (multiply-adds).

    `model` is the network's name if it is one of this repository.
    """

    params: Optional[float]
    flops: Optional[float]
    model: Optional[str] = None


NO_COST = Cost(None, None)
PAPER_SIZE = 352  # at which the paper counts others' networks, whatever their own input


def cost_of(weights: PathLike, size: Optional[int] = None) -> Cost:
    """Count the cost of the network in a checkpoint, at `size` pixels a side or its own; that of an
    exported file (.onnx) is not known.

    Raises InputError for any other file.
    """
    if Path(weights).suffix == ".onnx":
        return NO_COST
    from SCFNet.checkpoint import load_net

    net = load_net(weights)
    counted = cost(net, size)
    return Cost(counted["params"], counted["flops"], net.model_type)


def cost(net: "SaliencyNet", size: Optional[int] = None) -> Dict[str, int]:
    """Count what one image costs, as the paper's tables do, which count in two ways.

    `params` and `flops` of SCFNet, at `size` or its own input size, are the numbers of
    `paddle.flops`: parameters with BatchNorm statistics, of the layers that run and have no
    children (so without Swin's tables of position biases), and operations of which a multiply-add
    is one. Those of the other networks, at 352x352, are ptflops': parameters without BatchNorm
    statistics; multiply-adds and biases of convolutions, two operations for each value out of a
    batch norm, one for each out of a ReLU or into a max-pool. Only layers count, not functions, as
    which the original ResNets call ReLU. `maccs` are the multiply-adds of convolutions and linear
    layers alone, at the same size.
    """
    import paddle
    from paddle import nn

    params: Dict[int, int] = {}
    maccs: List[int] = []
    flops: List[int] = []
    functions = {id(layer) for name, layer in net.named_sublayers() if name.startswith("bkbone.")}

    def count(layer: "paddle.nn.Layer", inputs: Tuple, output: "paddle.Tensor") -> None:
        params[id(layer)] = sum(int(p.size) for p in layer.parameters())
        size = int(output.size)
        if isinstance(layer, nn.Conv2D):
            maccs.append(size * int(np.prod(layer.weight.shape[1:])))
            flops.append(maccs[-1] if layer.bias is None else maccs[-1] + size)
        elif isinstance(layer, nn.Linear):
            maccs.append(size * layer.weight.shape[0])
        elif isinstance(layer, nn.BatchNorm2D):
            flops.append(2 * size)
        elif isinstance(layer, nn.ReLU) and id(layer) not in functions:
            flops.append(size)
        elif isinstance(layer, nn.MaxPool2D):
            flops.append(int(inputs[0].size))

    net.eval()
    leaves = [layer for layer in net.sublayers() if not layer.sublayers()]
    hooks = [layer.register_forward_post_hook(count) for layer in leaves]
    try:
        with contextlib.redirect_stdout(io.StringIO()), paddle.no_grad():
            if net.model_type in BACKBONES:
                side = size or net.input_size
                flops = [int(paddle.flops(net, (1, 3, side, side)))]
            else:
                net(paddle.zeros([1, 3, PAPER_SIZE, PAPER_SIZE]))
                trained = [p for p in net.parameters() if not p.stop_gradient]
                params = {id(p): int(p.size) for p in trained}
    finally:
        for hook in hooks:
            hook.remove()
        for layer in leaves:  # paddle.flops leaves its counters in those that did not run
            for counter in ("total_ops", "total_params"):
                if hasattr(layer, counter):
                    delattr(layer, counter)
    return {"params": sum(params.values()), "flops": sum(flops), "maccs": sum(maccs)}
