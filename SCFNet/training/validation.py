"""Validation while training: maps, scores and pictures of a network."""

from contextlib import contextmanager
from typing import Dict, Iterator, List, Sequence

import cv2
import numpy as np
import paddle
from tqdm import tqdm

from datasets.sod import Sample, read_pair
from SCFNet.errors import NotFiniteError
from SCFNet.metrics import PaperScore
from SCFNet.net import SaliencyNet
from SCFNet.photos.transform import network_input
from SCFNet.training.distributed import quiet, sum_over_processes

SHOWN_SIDE = 224  # of a panel of `pictures`, in pixels


@paddle.no_grad()
def predict_maps(net: SaliencyNet, photos: Sequence[np.ndarray], size: int) -> np.ndarray:
    """Predict the saliency maps [n, size, size] in [0, 1] of RGB uint8 `photos`.

    Raises NotFiniteError if they are not numbers.
    """
    batch = network_input(photos, size, net.normalisation)
    preds = net.predict(paddle.to_tensor(batch))[:, 0].numpy()
    if not np.isfinite(preds).all():
        raise NotFiniteError("the network's maps are not finite")
    return preds


def evaluate(
    net: SaliencyNet, samples: Sequence[Sample], size: int, batch_size: int = 8
) -> Dict[str, float]:
    """Score `net` on a labelled set, in eval mode: MAE and Max-F of the `paper` protocol.

    Several processes share the work.

    Args:
        net: left in the mode that it was in.
        samples: with masks.
        size: side of the network's input, in pixels.
        batch_size: photos at once.

    Raises InputError for unreadable files, and NotFiniteError as `predict_maps` does.
    """
    mine = samples[paddle.distributed.get_rank() :: paddle.distributed.get_world_size()]
    score = PaperScore()
    bar = tqdm(total=len(mine), desc="scoring", leave=False, disable=quiet(), delay=2)
    with in_eval_mode(net), bar:
        for start in range(0, len(mine), batch_size):
            photos, masks = zip(*map(read_pair, mine[start : start + batch_size]))
            for pred, gt in zip(predict_maps(net, photos, size), masks):
                score.add(cv2.resize(pred, gt.shape[::-1]), gt)
            bar.update(len(photos))
    scores = PaperScore(sum_over_processes(paddle.to_tensor(score.sums)).numpy()).result()
    return {name: scores[name] for name in ("MAE", "Max-F")}


def pictures(net: SaliencyNet, samples: Sequence[Sample]) -> List[np.ndarray]:
    """Lay photo, mask and predicted map of each sample side by side, uint8 [H, 3 * H, 3]."""
    rows = []
    size = (SHOWN_SIDE, SHOWN_SIDE)
    with in_eval_mode(net):
        for sample in samples:
            image, gt = read_pair(sample)
            pred = predict_maps(net, [image], net.input_size)[0]
            grey = [cv2.resize(np.asarray(plane), size) for plane in (gt, pred * 255)]
            panels = [cv2.resize(image, size), *(np.dstack([plane] * 3) for plane in grey)]
            rows.append(np.concatenate(panels, 1).astype("uint8"))
    return rows


@contextmanager
def in_eval_mode(net: SaliencyNet) -> Iterator[None]:
    """Put `net` into eval mode within the block."""
    training = net.training
    net.eval()
    try:
        yield
    finally:
        if training:
            net.train()
