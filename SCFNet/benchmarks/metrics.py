"""Speed of the paper's measures: ours, the obvious way, and the PySODMetrics library, one core."""

import tempfile
import time
from pathlib import Path
from typing import Dict, List, Tuple

import cv2
import numpy as np

from SCFNet.benchmarks.timing import Way, time_in_turns
from SCFNet.metrics import BETA2, EPS, PaperScore, scale
from SCFNet.photos.images import write_png
from SCFNet.scoring.tables import Row
from SCFNet.scoring.tasks import Pair, Task, score_tasks, start_scoring


def example(height: int = 300, width: int = 400, seed: int = 0) -> Tuple[np.ndarray, np.ndarray]:
    """Make up a map and its mask, uint8 [H, W] each, of ECSSD's size: blobs with soft edges."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.random((height, width)), (0, 0), 25)
    mask = noise > np.quantile(noise, 0.75)
    found = np.clip(mask + rng.normal(0, 0.3, mask.shape), 0, 1)
    pred = scale(cv2.GaussianBlur(found, (0, 0), 3))
    return np.rint(255 * pred).astype(np.uint8), mask.astype(np.uint8) * 255


def obvious_way(pred: np.ndarray, gt: np.ndarray) -> Dict[str, object]:
    """Compute MAE, the F curve [256], E and weighted F as their definitions read.

    So does the release: by a loop over thresholds with maps of floats and lists of the object's
    pixels, SciPy's distance transform with indices, and a two-dimensional Gaussian.
    """
    from scipy.ndimage import correlate, distance_transform_edt

    pred, gt = scale(pred), scale(gt) >= 0.5
    places = np.where(gt)
    curve = []
    for threshold in np.linspace(0, 1, 256):
        binary = (pred >= threshold).astype(np.float32)
        hits = binary[places].sum()
        precision, recall = hits / (binary.sum() + EPS), hits / (gt.sum() + EPS)
        curve.append((1 + BETA2) * precision * recall / (BETA2 * precision + recall + EPS))

    binary = (pred >= min(2 * pred.mean(), 1)).astype(float)
    x, y = binary - binary.mean(), gt - gt.mean()
    aligned = (2 * x * y / (x * x + y * y + EPS) + 1) ** 2 / 4

    distance, (rows, columns) = distance_transform_edt(~gt, return_indices=True)
    error = np.abs(pred - gt)
    gaussian = cv2.getGaussianKernel(7, 5, cv2.CV_64F)
    smooth = correlate(error[rows, columns], gaussian @ gaussian.T, mode="constant")
    weighted = np.where(gt & (smooth < error), smooth, error)
    weighted *= np.where(gt, 1, 2 - np.exp(np.log(0.5) / 5 * distance))
    hit = gt.sum() - weighted[gt].sum()
    recall, precision = hit / gt.sum(), hit / (hit + weighted[~gt].sum() + EPS)
    return {
        "MAE": error.mean(),
        "F": np.array(curve),
        "E-measure": aligned.sum() / (gt.size - 1),
        "Wgt-F": 2 * precision * recall / (precision + recall + EPS),
    }


def library(pred: np.ndarray, gt: np.ndarray) -> None:
    """Compute the same four by the PySODMetrics library."""
    import py_sod_metrics

    f = py_sod_metrics.FmeasureV2({"f": py_sod_metrics.FmeasureHandler(True, True)})
    mae, e = py_sod_metrics.MAE(), py_sod_metrics.Emeasure()
    for measure in (mae, f, e, py_sod_metrics.WeightedFmeasure()):
        measure.step(pred, gt)


def compare(rounds: int) -> List[Row]:
    """Time each way; a row has milliseconds an image, and the share of the obvious way's.

    Ours has S-measure and adaptive F on top of the four that the others compute. The ways take
    turns, `rounds` calls each, on one core; the number is the median.
    """
    pred, gt = example()
    ways: Dict[str, Way] = {
        "obvious way": lambda: obvious_way(pred, gt),
        "pysodmetrics": lambda: library(pred, gt),
        "ours (and S, adaptive F)": lambda: PaperScore().add(pred, gt),
    }
    threads = cv2.getNumThreads()
    start_scoring()
    times = time_in_turns(ways, rounds)
    cv2.setNumThreads(threads)
    milliseconds = {name: 1000 * float(np.median(spent)) for name, spent in times.items()}
    return [
        {"way": name, "ms an image": spent, "share": spent / milliseconds["obvious way"]}
        for name, spent in milliseconds.items()
    ]


def scale_workers(images: int) -> List[Row]:
    """Time scoring by one worker and by two, of `images` maps that are made for it.

    A row has images a second, PNG decoding included, and the ratio to one worker.
    """
    rows: List[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        pairs = []
        for i in range(8):
            pair = Pair(str(i), Path(folder, f"{i}-map.png"), Path(folder, f"{i}-mask.png"))
            for path, image in zip(pair[1:], example(seed=i)):
                write_png(path, image)
            pairs.append(pair)
        task = Task("made up", "made up", [pairs[i % 8] for i in range(images)], [], [])
        for workers in (1, 2):
            start = time.perf_counter()
            score_tasks([task], "paper", workers)
            speed = images / (time.perf_counter() - start)
            first = rows[0]["images/s"] if rows else speed
            rows.append({"workers": workers, "images/s": speed, "ratio": speed / first})
    return rows
