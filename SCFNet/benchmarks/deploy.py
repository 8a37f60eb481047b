"""Speed of deployment: ONNX Runtime beside Paddle, and a folder of photos."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import numpy as np

from datasets.sod import list_folder
from SCFNet.benchmarks.timing import Way, in_own_process, time_in_turns
from SCFNet.checkpoint import DEFAULT_WEIGHTS
from SCFNet.device import peak_memory_mb
from SCFNet.photos.writing import write_image
from SCFNet.scoring.tables import Row

PREDICT = Path(__file__).resolve().parents[2] / "tools" / "predict.py"


def measure_all(folder: Optional[Path] = None, rounds: int = 5) -> List[Row]:
    """Measure on the CPU with the default weights, by either engine: the network, a photo, and a
    folder. The engines take turns for `rounds` rounds, and the best of each counts.

    `folder` holds the photos; by default 300 are made. Raises InputError if there are none in it.
    """
    with tempfile.TemporaryDirectory() as temporary:
        photos = folder or make_photos(Path(temporary) / "photos", 300)
        names = list(list_folder(photos).values())
        speed, peak = in_own_process(predict_folder, photos, Path(temporary) / "masks")
        network = in_own_process(time_network, 20 * rounds)
        photo = time_photo(names[0], Path(temporary) / "one", rounds)
    return [
        _row("network, batch 1, ms", {name: 1000 * spent for name, spent in network.items()}),
        _row("predict.py with one photo, s", photo),
        _row(f"folder of {len(names)} photos, masks written, images/s", {"onnx": speed}),
        _row("peak memory of that, MB", {"onnx": peak}),
    ]


def make_photos(folder: Path, count: int) -> Path:
    """Write `count` JPEG photos of 481 x 321, the size of SOD's, crops of one photo; the folder."""
    from skimage.data import retina

    photo = retina()
    rng = np.random.default_rng(0)
    for i in range(count):
        top, left = rng.integers(0, 1411 - 481, 2)
        write_image(folder / f"{i:05}.jpg", photo[top : top + 321, left : left + 481])
    return folder


def time_network(rounds: int) -> Dict[str, float]:
    """Measure the seconds of a forward pass at the network's own size, by engine."""
    from SCFNet.backends import Backend, open_onnx, open_paddle

    def forward(backend: Backend) -> Way:
        shape = (1, 3, backend.size, backend.size)
        x = np.random.default_rng(0).standard_normal(shape).astype("float32")
        return lambda: backend.run(x)

    exported = open_onnx(DEFAULT_WEIGHTS.with_suffix(".onnx"))
    backends = [open_paddle(DEFAULT_WEIGHTS, "cpu", None), exported]
    return _best({backend.name: forward(backend) for backend in backends}, rounds)


def time_photo(photo: Path, output: Path, rounds: int) -> Dict[str, float]:
    """Measure the seconds of tools/predict.py with one photo, from start to end, by engine."""

    def run(engine: str) -> Way:
        command = [sys.executable, str(PREDICT), str(photo), "--output", str(output)]
        command += ["--device", "cpu", "--engine", engine]
        return lambda: subprocess.run(command, check=True, stderr=subprocess.DEVNULL)

    return _best({engine: run(engine) for engine in ("paddle", "onnx")}, rounds)


def predict_folder(photos: Path, output: Path) -> Tuple[float, float]:
    """Predict a folder twice; the images/s of the second time, and the peak memory in MB."""
    from SCFNet.prediction.jobs import plan_jobs
    from SCFNet.prediction.pipeline import predict_jobs
    from SCFNet.prediction.rendering import RenderOptions
    from SCFNet.predictor import Predictor

    predictor = Predictor(DEFAULT_WEIGHTS.with_suffix(".onnx"))
    jobs = plan_jobs([str(photos)], output, [".png"])
    for _ in range(2):
        start = time.perf_counter()
        predict_jobs(predictor, jobs, RenderOptions())
    return len(jobs) / (time.perf_counter() - start), peak_memory_mb()


def _best(ways: Dict[str, Way], rounds: int) -> Dict[str, float]:
    return {name: float(times.min()) for name, times in time_in_turns(ways, rounds).items()}


def _row(what: str, values: Dict[str, float]) -> Row:
    paddle = values.get("paddle")
    return {
        "what": what,
        "ONNX Runtime": values["onnx"],
        "Paddle": paddle,
        "ratio": paddle and values["onnx"] / paddle,
    }
