"""Several processes under `paddle.distributed.launch`: who speaks, and what they agree on."""

import math
from typing import Optional

from SCFNet.device import paddle, set_device
from SCFNet.net import SCFNet

Tensor = paddle.Tensor


def start_devices(device: str) -> None:
    """Choose the device, and join the other processes under `paddle.distributed.launch`."""
    set_device(device)
    if paddle.distributed.get_world_size() > 1:
        paddle.distributed.init_parallel_env()


def quiet() -> Optional[bool]:
    """tqdm's `disable`: a bar on a terminal only, and in the first process only."""
    return True if paddle.distributed.get_rank() else None


def any_process(flag: bool) -> bool:
    """Whether `flag` holds in any of the processes."""
    if paddle.distributed.get_world_size() == 1:
        return flag
    total = paddle.to_tensor([float(flag)])
    paddle.distributed.all_reduce(total)
    return float(total) > 0


@paddle.no_grad()
def average_over_processes(net: SCFNet, values: Tensor, images: int) -> Tensor:
    """Average gradients, batch norm statistics and `values`, weighted by each one's `images`.

    One message carries all. Returns the averaged `values`.
    """
    tensors = [p.grad for p in net.parameters() if p.grad is not None]
    tensors += [p for p in net.parameters() if p.stop_gradient]  # Paddle counts statistics here
    flat = [t.flatten() for t in (*tensors, values, paddle.ones([1]))]
    message = paddle.concat(flat) * images
    paddle.distributed.all_reduce(message)
    message /= message[-1]
    *parts, values, _ = paddle.split(message, [math.prod(t.shape) for t in flat])
    for tensor, part in zip(tensors, parts):
        tensor.set_value(part.reshape(tensor.shape))
    return values
