"""Validation while training: maps, scores and pictures of a network."""

from typing import Dict, List, Sequence

import cv2
import numpy as np
import paddle
from tqdm import tqdm

from datasets.sod import Sample, read_pair
from datasets.transform import network_input
from SCFNet import metrics
from SCFNet.net import SaliencyNet
from SCFNet.training.distributed import quiet, sum_over_processes


@paddle.no_grad()
def predict_maps(net: SaliencyNet, photos: Sequence[np.ndarray], size: int) -> np.ndarray:
    """The saliency maps [n, size, size] in [0, 1] of RGB uint8 `photos`."""
    batch = network_input(photos, size, net.normalisation)
    return net.predict(paddle.to_tensor(batch))[:, 0].numpy()


def evaluate(
    net: SaliencyNet, samples: Sequence[Sample], size: int, batch_size: int = 8
) -> Dict[str, float]:
    """MAE and Max-F (`paper` protocol) of `net` on labelled `samples`, in eval mode at `size`.

    Several processes share the work. Raises InputError for unreadable files.
    """
    mine = samples[paddle.distributed.get_rank() :: paddle.distributed.get_world_size()]
    sums = np.zeros(514)  # images, sum of MAE, of precision [256], of recall [256]
    training = net.training
    net.eval()
    with tqdm(total=len(mine), desc="scoring", leave=False, disable=quiet(), delay=2) as bar:
        for start in range(0, len(mine), batch_size):
            pairs = [read_pair(sample) for sample in mine[start : start + batch_size]]
            for (_, mask), saliency in zip(pairs, predict_maps(net, [p[0] for p in pairs], size)):
                objects = metrics.binarize(mask)
                values = metrics.scale(cv2.resize(saliency, mask.shape[::-1]))
                error = np.abs(values - objects).mean()
                sums += np.concatenate([[1, error], *metrics.precision_recall(values, objects)])
            bar.update(len(pairs))
    if training:
        net.train()
    sums = sum_over_processes(paddle.to_tensor(sums)).numpy()
    mean = sums / sums[0]
    f = metrics.f_measure(mean[2:258], mean[258:])
    return {"MAE": float(mean[1]), "Max-F": float(f.max())}


def pictures(net: SaliencyNet, samples: Sequence[Sample], size: int = 224) -> List[np.ndarray]:
    """Photo, mask and predicted map of each sample side by side, uint8 [size, 3 * size, 3]."""
    found = []
    training = net.training
    net.eval()
    for sample in samples:
        image, mask = read_pair(sample)
        saliency = predict_maps(net, [image], net.input_size)[0]
        grey = [cv2.resize(m, (size, size)) * 255 for m in (mask, saliency)]
        panels = [cv2.resize(image, (size, size)), *(np.dstack([g] * 3) for g in grey)]
        found.append(np.concatenate(panels, 1).astype("uint8"))
    if training:
        net.train()
    return found
