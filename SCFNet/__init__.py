"""SCFNet: salient object detection, and distillation, on PaddlePaddle.

`import SCFNet` imports no Paddle. It only sets what must be set before Paddle is imported.
"""

import os
import warnings

import backbones  # noqa: F401  loads zlib before paddle

os.environ.setdefault("GLOG_minloglevel", "2")  # hides "libcudnn.so not found" on CPU machines
warnings.filterwarnings("ignore", module=r"paddle\b")  # what Paddle's own modules say on import
warnings.filterwarnings("ignore", "When training, we now always track")  # each batch norm says it
