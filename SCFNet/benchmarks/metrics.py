"""Speed of scoring: a map by either protocol on one core, and a folder by one worker and by two."""

import tempfile
import time
from pathlib import Path
from typing import List, Tuple

import cv2
import numpy as np

from SCFNet.benchmarks.timing import time_in_turns
from SCFNet.metrics import PROTOCOLS, scale
from SCFNet.photos.writing import write_png
from SCFNet.scoring.tables import Row
from SCFNet.scoring.tasks import Pair, Task, score_tasks


def example(height: int = 300, width: int = 400, seed: int = 0) -> Tuple[np.ndarray, np.ndarray]:
    """Make up a map and its mask, uint8 [H, W] each, of ECSSD's size: blobs with soft edges."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.random((height, width)), (0, 0), 25)
    mask = noise > np.quantile(noise, 0.75)
    found = np.clip(mask + rng.normal(0, 0.3, mask.shape), 0, 1)
    pred = scale(cv2.GaussianBlur(found, (0, 0), 3))
    return np.rint(255 * pred).astype(np.uint8), mask.astype(np.uint8) * 255


def compare(rounds: int) -> List[Row]:
    """Time the protocols on a map in memory, in turns: a row has the median milliseconds a map."""
    pair = example()
    ways = {name: lambda kind=kind: kind().add(*pair) for name, kind in PROTOCOLS.items()}
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    times = time_in_turns(ways, rounds)
    cv2.setNumThreads(threads)
    return [
        {"protocol": name, "ms a map": 1000 * float(np.median(spent))}
        for name, spent in times.items()
    ]


def scale_workers(images: int) -> List[Row]:
    """Time scoring a folder of `images` made maps by one worker and by two.

    A row has images a second, PNG decoding included, and the ratio to one worker.
    """
    rows: List[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        pairs = []
        for i in range(8):
            paths = [Path(folder, f"{i}-{kind}.png") for kind in ("map", "mask")]
            for path, image in zip(paths, example(seed=i)):
                write_png(path, image)
            pairs.append(Pair(str(i), paths[0], paths[1]))
        task = Task("made up", "made up", [pairs[i % 8] for i in range(images)], [], [])
        for workers in (1, 2):
            start = time.perf_counter()
            score_tasks([task], "paper", workers)
            speed = images / (time.perf_counter() - start)
            first = rows[0]["images/s"] if rows else speed
            rows.append({"workers": workers, "images/s": speed, "ratio": speed / first})
    return rows
