"""Several processes under `paddle.distributed.launch`: printing once, and combining numbers."""

import math
from functools import lru_cache
from typing import Optional

import paddle
from paddle import Tensor
from tqdm import tqdm

from SCFNet.device import set_device
from SCFNet.errors import InputError
from SCFNet.net import SaliencyNet


def start_devices(device: str, deterministic: bool = False) -> None:
    """Choose the device, and join the other processes under `paddle.distributed.launch`."""
    set_device(device, deterministic)
    if paddle.distributed.get_world_size() > 1:
        paddle.distributed.init_parallel_env()


def quiet() -> Optional[bool]:
    """Return tqdm's `disable`: None, a bar on terminals alone, in the first process; else True."""
    return True if paddle.distributed.get_rank() else None


def say(line: str) -> None:
    """Print a line, in the first process only."""
    if not quiet():
        print(line, flush=True)


@lru_cache(maxsize=None)
def say_once(fault: str) -> None:
    """Print, above a bar and once in each process, that a file was left out."""
    tqdm.write(f"left out: {fault}")


def sum_over_processes(tensor: Tensor) -> Tensor:
    """Sum all processes' `tensor`s, in place; raises as `_reduce` does."""
    return _reduce(tensor, paddle.distributed.ReduceOp.SUM)


def largest_over_processes(value: int) -> int:
    """Find the largest `value` of all processes, once all have one; raises as `_reduce` does."""
    if paddle.distributed.get_world_size() == 1:  # no tensor: a GPU would be waited for
        return value
    tensor = paddle.to_tensor([value], "int64")
    return int(_reduce(tensor, paddle.distributed.ReduceOp.MAX))


def wait_for_processes() -> None:
    """Wait until all processes have reached this call; raises as `_reduce` does."""
    largest_over_processes(0)


def _reduce(tensor: Tensor, operation: int) -> Tensor:
    """Combine all processes' `tensor`s, in place. Raises InputError if one does not answer: it has
    ended, or was suspended for longer than Paddle waits (on CPUs half a minute).
    """
    if paddle.distributed.get_world_size() > 1:
        try:
            paddle.distributed.all_reduce(tensor, op=operation)
        except RuntimeError as error:
            raise InputError(
                "another process of this run does not answer; start all again with --resume auto"
            ) from error
    return tensor


@paddle.no_grad()
def average_over_processes(net: SaliencyNet, values: Tensor, images: int) -> Tensor:
    """Average gradients, batch norm statistics and `values`, weighted by each process's `images`.

    One message carries all. Returns the averaged `values`.
    """
    tensors = [p.grad for p in net.parameters() if p.grad is not None]
    tensors += [p for p in net.parameters() if p.stop_gradient]  # Paddle counts statistics here
    flat = [t.flatten() for t in (*tensors, values, paddle.ones([1]))]
    message = sum_over_processes(paddle.concat(flat) * images)
    message /= message[-1]
    *parts, values, _ = paddle.split(message, [math.prod(t.shape) for t in flat])
    for tensor, part in zip(tensors, parts):
        tensor.set_value(part.reshape(tensor.shape))
    return values
