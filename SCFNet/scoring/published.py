"""The rows of SCFNet in the paper's Table 1, as its authors publish them with the release.

They publish MAE alone on the release's page; F and E are in the paper, and None here.
"""

from typing import Dict, NamedTuple, Optional, Tuple

SETS = ("DUTS-TE", "ECSSD", "HKU-IS", "DUT-OMRON", "PASCAL-S")

Triple = Tuple[Optional[float], ...]  # M, F and E


class Published(NamedTuple):
    """Parameters, FLOPs as the paper counts them, and M, F and E by set."""

    params: float
    flops: float
    scores: Dict[str, Triple]


def _row(params: float, flops: float, *maes: float) -> Published:
    return Published(params, flops, {data: (mae, None, None) for data, mae in zip(SETS, maes)})


PUBLISHED = {
    "SCFNet-STB": _row(88.16e6, 46.74e9, 0.026, 0.023, 0.021, 0.045, 0.051),
    "SCFNet-R50": _row(26.15e6, 13.15e9, 0.031, 0.031, 0.026, 0.047, 0.060),
    "FS-SCFNet": _row(0.80e6, 0.25e9, 0.041, 0.039, 0.031, 0.059, 0.068),
    "KD-SCFNet, R50": _row(0.80e6, 0.25e9, 0.035, 0.035, 0.029, 0.052, 0.061),
    "KD-SCFNet, STB": _row(0.80e6, 0.30e9, 0.035, 0.030, 0.026, 0.054, 0.056),
}
