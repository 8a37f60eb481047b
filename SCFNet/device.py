"""The one place that decides on the device."""

import os

import paddle

from datasets.files import InputError

DEVICES = ("auto", "cpu", "gpu")


def set_device(name: str = "auto") -> str:
    """Make `name` ('auto', 'cpu', 'gpu' or 'gpu:N') the device of all that follows; its name.

    'auto' is the GPU where there is one that works, else the CPU. Under
    `paddle.distributed.launch` 'auto' and 'gpu' are the GPU of this process.
    Raises InputError for another name, and where a GPU is asked for that is not there.
    """
    kind, _, number = name.partition(":")
    if kind not in DEVICES or (number and not (kind == "gpu" and number.isdigit())):
        raise InputError(f"--device {name}: choose auto, cpu, gpu or gpu:N")
    count = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    if name == "auto":
        name = "gpu" if count else "cpu"
    elif name.startswith("gpu") and not count:
        raise InputError(f"--device {name}: no GPU was found; use --device cpu")
    elif number and int(number) >= count:
        raise InputError(f"--device {name}: there are {count} GPUs, the first is gpu:0")
    if name == "gpu":
        name = f"gpu:{os.environ.get('FLAGS_selected_gpus', '0').split(',')[0]}"
    paddle.device.set_device(name)
    return name
