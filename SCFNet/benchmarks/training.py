"""Speed of training: loading pairs, the SP loss, and what tools/train.py and distill.py reach."""

import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Dict, List, Mapping, Sequence, Tuple

import cv2
import numpy as np
from PIL import Image

from datasets.loader import Epoch, batches
from datasets.sod import Sample, list_pairs
from SCFNet.benchmarks.timing import Way, time_in_turns
from SCFNet.errors import InputError
from SCFNet.scoring.tables import Row

TOOLS = Path(__file__).resolve().parents[2] / "tools"
PHOTO = (300, 400)  # height and width of most of DUTS-TR
SIDE = 224
LARGEST_SIDE = 352  # of the paper's five


def parts(rounds: int = 5, batch_sizes: Sequence[int] = (8, 128)) -> List[Row]:
    """Measure what a step consists of beside the network, on one core: a row for each part has the
    median milliseconds of the processor an image. The parts take turns, `rounds` times, after one
    that does not count: the first batch pays for the memory that later ones use again.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        samples = write_photos(Path(folder), max(batch_sizes))
        ways = {
            f"load a pair of 400x300 at {LARGEST_SIDE} px, batch {n}": load(samples[:n], rounds + 1)
            for n in batch_sizes
        }
        ways[f"SP loss of four maps, {SIDE} px, kernel size 13"] = sp_loss()
        spent = time_in_turns(ways, rounds, time.process_time)
    cv2.setNumThreads(threads)
    images = [*batch_sizes, 8]
    return [
        {"part": part, "ms an image": 1000 * float(np.median(times)) / n}
        for (part, times), n in zip(spent.items(), images)
    ]


def load(samples: List[Sample], count: int) -> Way:
    """Return a call that loads the next of `count` batches, each as large as `samples`."""
    epoch = Epoch(samples * count, [LARGEST_SIDE], len(samples))
    return partial(next, batches(epoch))


def sp_loss() -> Way:
    """Return a call that computes the SP loss of four maps [8, 1, 224, 224] and its gradient."""
    import paddle

    from SCFNet.device import set_device
    from SCFNet.loss import map_losses, weighted_sum

    set_device("cpu")
    rng = np.random.default_rng(0)
    maps = [paddle.to_tensor(rng.standard_normal((8, 1, SIDE, SIDE), "float32")) for _ in range(4)]
    for logits in maps:
        logits.stop_gradient = False
    mask = paddle.to_tensor(np.stack([ellipse(SIDE, SIDE)] * 8)[:, None].astype("float32"))
    return lambda: weighted_sum(map_losses(maps, mask, "sp", 13)).backward()


def runs(epochs: int = 3, photos: int = 64, teacher: str = "R50") -> List[Row]:
    """Measure tools/train.py and distill.py, M3_0.5 at 224 px on made photos.

    A row for each run has images/s without the first epoch, and the ratio to the first row. Each
    process has one core.

    Raises InputError if a run fails.
    """
    from SCFNet.checkpoint import save_weights
    from SCFNet.zoo import build_network

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_photos(folder / "data", photos)
        save_weights(build_network(teacher), folder / "teacher.pdparams")
        beside: Dict[str, object] = {
            "data": folder / "data" / "image",
            "teacher": folder / "teacher.pdparams",
        }
        cases: Dict[str, Tuple[str, int, Dict[str, object]]] = {
            "train, one process": ("train", 1, {"data": folder / "data"}),
            "train, two processes": ("train", 2, {"data": folder / "data"}),
            f"distil beside {teacher}": ("distill", 1, beside),
            "distil from its cache": ("distill", 1, {**beside, "cache-labels": folder / "maps"}),
        }
        rows: List[Row] = []
        for number, (name, (tool, processes, flags)) in enumerate(cases.items(), 1):
            print(f"{number}/{len(cases)} {name}", file=sys.stderr)
            output = folder / str(number)
            speed = images_per_second(tool, processes, {**flags, "epochs": epochs}, output, photos)
            first = rows[0]["images/s"] if rows else speed
            rows.append({"run": name, "images/s": speed, "ratio": speed / first})
    return rows


def images_per_second(
    tool: str, processes: int, flags: Mapping[str, object], output: Path, photos: int
) -> float:
    """Run a tool on the CPU, and read the images/s after its first epoch from its log."""
    flags = {"device": "cpu", "pretrained": "none", "sizes": SIDE, "batch-size": 16, "workers": 1,
             "output": output, **flags}  # fmt: skip
    launch = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", str(processes)]
    command = [*launch, "--log_dir", str(output / "logs"), str(TOOLS / f"{tool}.py")]
    command += [f"--{name}={value}" for name, value in flags.items()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"{' '.join(command)}: failed: {done.stderr.strip()[-300:]}")
    first, *_, last = map(json.loads, (output / "log.jsonl").read_text().splitlines())
    epochs = last["epoch"] - first["epoch"]
    return photos * epochs / (last["minutes"] - first["minutes"]) / 60


def write_photos(folder: Path, count: int) -> List[Sample]:
    """Write `count` pairs of DUTS-TR's usual size, made of scikit-image's photos; return them."""
    from skimage import data

    sources = (data.astronaut(), data.chelsea(), data.coffee(), data.rocket())
    for name in ("image", "mask"):
        (folder / name).mkdir(parents=True)
    mask = Image.fromarray(ellipse(*PHOTO))
    for i in range(count):
        photo = Image.fromarray(cv2.resize(sources[i % len(sources)], PHOTO[::-1]))
        photo.save(folder / "image" / f"{i}.jpg", quality=84)  # about 25 KB
        mask.save(folder / "mask" / f"{i}.png")
    return list_pairs(folder)


def ellipse(height: int, width: int) -> np.ndarray:
    """Draw a mask, bool [H, W]."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return y**2 / 0.4 + x**2 / 0.3 < 1
