"""The one place that decides on the device. It imports Paddle when a device is set, not before."""

import os
import sys
import warnings
from pathlib import Path
from typing import Any, Iterable, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from SCFNet.errors import ArgumentError

DEVICES = ("auto", "cpu", "gpu")


def parse_device(name: str) -> Tuple[str, Optional[int]]:
    """Split 'auto', 'cpu', 'gpu' or 'gpu:N' into the kind and N, None if not given.

    Raises ArgumentError for any other name.
    """
    kind, colon, number = name.partition(":") if isinstance(name, str) else ("", "", "")
    has_number = kind == "gpu" and number.isdecimal() and number.isascii()
    if kind not in DEVICES or (colon and not has_number):
        raise ArgumentError("device", f"{name!r} is none of auto, cpu, gpu and gpu:N")
    return kind, int(number) if colon else None


def set_device(name: str = "auto", deterministic: bool = False) -> str:
    """Make `name` ('auto', 'cpu', 'gpu' or 'gpu:N') the device of all that follows; return it.

    'auto' is the GPU if there is one that runs a kernel, else the CPU. Under
    `paddle.distributed.launch` 'auto' and 'gpu' are the GPU of this process. With `deterministic`
    cuDNN takes only algorithms that give the same numbers each time. Raises ArgumentError for
    another name, and for a GPU that is not there or runs no kernel of this Paddle.
    """
    import paddle

    kind, number = parse_device(name)
    count = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    if kind == "auto":
        kind = "gpu" if count else "cpu"
    elif kind == "gpu" and not count:
        raise ArgumentError("device", f"{name}: no GPU was found; use cpu")
    elif number is not None and number >= count:
        raise ArgumentError("device", f"{name}: the last of {count} GPUs is gpu:{count - 1}")
    if kind == "gpu" and number is None:
        number = int(os.environ.get("FLAGS_selected_gpus", "0").split(",")[0])
    device = kind if number is None else f"gpu:{number}"
    paddle.device.set_device(device)
    if kind == "gpu":
        try:
            float(paddle.ones([1]) + 1)
        except Exception as error:  # which one, depends on the driver
            card = paddle.device.cuda.get_device_name(number)
            fault = f"Paddle {paddle.__version__} has no kernels that run on this GPU, {card}"
            if name != "auto":
                raise ArgumentError(
                    "device", f"{name}: {fault}; use cpu, or another Paddle"
                ) from error
            warnings.warn(f"{fault}: the CPU is used", stacklevel=2)
            return set_device("cpu")
        paddle.set_flags({"FLAGS_cudnn_deterministic": deterministic})  # unknown without CUDA
    return device


def on_gpu() -> bool:
    """Return whether the device is a GPU. Paddle is not imported for it."""
    paddle = sys.modules.get("paddle")
    return paddle is not None and paddle.device.get_device().startswith("gpu")


def to_device(batches: Iterable[Sequence[Optional[np.ndarray]]]) -> Iterator[List[Any]]:
    """Yield batches of arrays as lists of tensors on the device; None stays None.

    For a GPU Paddle's reader fetches ahead: it copies from pinned memory, on a stream of its own,
    while the step before runs. Its way with `pin_memory` would leave the copying to the step.
    """
    import paddle

    if not on_gpu():
        for batch in batches:
            yield [None if array is None else paddle.to_tensor(array) for array in batch]
        return
    faults = []

    class Source(paddle.io.IterableDataset):
        def __iter__(self) -> Iterator[Sequence[Optional[np.ndarray]]]:
            try:
                yield from batches
            except Exception as error:  # the reader, in a thread of its own, would wait for ever
                faults.append(error)

    reader = paddle.io.DataLoader(Source(), batch_size=None)
    reader.pin_memory = False
    yield from reader
    if faults:
        raise faults[0]


def peak_memory_mb() -> float:
    """Measure what this process held at most, in MB: on the GPU if it is the device, else in RAM.

    NaN on Windows, which does not tell. Paddle is not imported for it.
    """
    if on_gpu():
        return sys.modules["paddle"].device.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")  # Linux: getrusage would count what started this process
    if status.exists() and "VmHWM:" in status.read_text():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 2**10
    try:
        import resource
    except ImportError:
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
