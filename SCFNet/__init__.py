"""The method: network, losses, checkpoints, prediction, the training loop and the metrics."""

import backbones  # noqa: F401  loads zlib before paddle
