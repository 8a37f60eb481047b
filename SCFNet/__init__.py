"""SCFNet: salient object detection, and distillation, on PaddlePaddle.

    from SCFNet import Predictor, predict     # photos to saliency maps
    from SCFNet import SCFNet, load_net       # the network

`import SCFNet` imports no Paddle: a public name is imported when it is first asked for. The package
only sets what must be set before Paddle is imported.
"""

import importlib
import os
import warnings
import zlib  # noqa: F401  loaded after paddlepaddle-gpu 2.6.2, it would crash at the next inflate
from typing import Any, List

os.environ.setdefault("GLOG_minloglevel", "2")  # hides "libcudnn.so not found" on CPU machines
warnings.filterwarnings("ignore", module=r"paddle\b")  # what Paddle's own modules say on import
warnings.filterwarnings("ignore", "When training, we now always track")  # each batch norm says it

# The public names, and the module that each is in.
PUBLIC = {
    "Predictor": "SCFNet.predictor",
    "predict": "SCFNet.predictor",
    "SCFNet": "SCFNet.net",
    "load_net": "SCFNet.checkpoint",
}


def __getattr__(name: str) -> Any:
    """Import the module of a public name (PEP 562)."""
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(PUBLIC[name]), name)


def __dir__() -> List[str]:
    return sorted({*globals(), *PUBLIC})
