"""What a network costs: parameters, FLOPs and multiply-adds, as the paper's tables count."""

import contextlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

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
    is one. Those of the other networks, at 352x352, are `count_as_ptflops`. `maccs` are the
    multiply-adds of convolutions and linear layers alone, at the same size.
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

    net.eval()
    if net.model_type not in BACKBONES:
        with hooked(net, count):
            counted = count_as_ptflops(net)
        return {**counted, "maccs": sum(maccs)}
    with hooked(net, count), contextlib.redirect_stdout(io.StringIO()), paddle.no_grad():
        flops = paddle.flops(net, (1, 3, size or net.input_size, size or net.input_size))
    return {"params": sum(params.values()), "flops": int(flops), "maccs": sum(maccs)}


def count_as_ptflops(net: "SaliencyNet") -> Dict[str, int]:
    """Count `params` and `flops` of an image of 352x352 as the paper did for others' networks.

    Parameters are without BatchNorm statistics. FLOPs are the multiply-adds and the biases of
    convolutions, two operations for each value out of a batch norm, one for each out of a ReLU or
    into a max-pool. Only layers count, not functions, as which the original ResNets call ReLU.
    """
    import paddle
    from paddle import nn

    functions = {id(layer) for name, layer in net.named_sublayers() if name.startswith("bkbone.")}
    flops: List[int] = []

    def count(layer: "paddle.nn.Layer", inputs: Tuple, output: "paddle.Tensor") -> None:
        size = int(output.size)
        if isinstance(layer, nn.Conv2D):
            each = int(np.prod(layer.weight.shape[1:]))
            flops.append(size * (each if layer.bias is None else each + 1))
        elif isinstance(layer, nn.BatchNorm2D):
            flops.append(2 * size)
        elif isinstance(layer, nn.ReLU) and id(layer) not in functions:
            flops.append(size)
        elif isinstance(layer, nn.MaxPool2D):
            flops.append(int(inputs[0].size))

    with hooked(net, count), paddle.no_grad():
        net(paddle.zeros([1, 3, PAPER_SIZE, PAPER_SIZE]))
    params = sum(int(p.size) for p in net.parameters() if not p.stop_gradient)
    return {"params": params, "flops": sum(flops)}


@contextlib.contextmanager
def hooked(net: "SaliencyNet", hook: Callable[..., None]) -> Iterator[None]:
    """Call `hook(layer, inputs, output)` whenever a layer of `net` without children has run."""
    leaves = [layer for layer in net.sublayers() if not layer.sublayers()]
    handles = [layer.register_forward_post_hook(hook) for layer in leaves]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
