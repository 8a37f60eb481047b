"""SCFNet: salient object detection, and distillation, on PaddlePaddle.

    from SCFNet import Predictor, predict     # photos to saliency maps
    from SCFNet import SCFNet, load_net       # the network

`import SCFNet` imports no Paddle: a public name is imported when it is first asked for. The package
only sets what must be set before Paddle is imported.

What pip installs predicts with .onnx files; the network itself needs a copy of the repository.
"""

import importlib
import os
import warnings
import zlib  # noqa: F401  loaded after paddlepaddle-gpu 2.6.2, it would crash at the next inflate
from pathlib import Path
from typing import Any, List

from SCFNet.packages import check_beside_numpy, why_not_imported

# ONNX Runtime looks up its maker's host and writes into ~/.cache, from its import alone.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("GLOG_minloglevel", "2")  # hides "libcudnn.so not found" on CPU machines
warnings.filterwarnings("ignore", module=r"paddle\b")  # what Paddle's own modules say on import
warnings.filterwarnings("ignore", "When training, we now always track")  # each batch norm says it

# pip puts the shipped weights into the package; in the repository they lie beside it.
_PACKAGE = Path(__file__).resolve().parent
IS_INSTALLED = (_PACKAGE / "weights").is_dir()
WEIGHTS = (_PACKAGE if IS_INSTALLED else _PACKAGE.parent) / "weights"
NEEDS_REPOSITORY = (
    "training and checkpoints (.pdparams, .pth) run in a copy of the repository, after: "
    "pip install -r requirements.txt; an installed SCFNet predicts with .onnx files"
)

# The public names, and the module that each is in.
PUBLIC = {
    "Predictor": "SCFNet.predictor",
    "predict": "SCFNet.predictor",
    "SCFNet": "SCFNet.net",
    "load_net": "SCFNet.checkpoint",
}


def __getattr__(name: str) -> Any:
    """Import the module of a public name (PEP 562).

    Raises ImportError, in one line, for the network in an installed package, and for a package of
    others that does not import.
    """
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if IS_INSTALLED and name in ("SCFNet", "load_net"):
        raise ImportError(NEEDS_REPOSITORY)
    try:
        check_beside_numpy("cv2")
        return getattr(importlib.import_module(PUBLIC[name]), name)
    except Exception as error:
        fault = why_not_imported(error)
        if fault is None:
            raise
        raise ImportError(fault) from None


def __dir__() -> List[str]:
    return sorted({*globals(), *PUBLIC})
