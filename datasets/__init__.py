"""Images and SOD data sets: reading, checking, augmenting and batching them."""

import backbones  # noqa: F401  loads zlib before paddle
