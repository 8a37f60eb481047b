"""Speed of deployment: the ONNX engine against Paddle, and a folder against the network alone.

A folder is predicted in a process of its own, python -m SCFNet.benchmarks.deploy, whose peak memory
then is that of the run.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, List, Mapping, Optional

import numpy as np
from tqdm import tqdm

from datasets.sod import list_folder
from SCFNet.backends import INPUT, OUTPUT, Backend, open_onnx, open_paddle
from SCFNet.benchmarks.timing import Way, time_in_turns
from SCFNet.checkpoint import DEFAULT_WEIGHTS
from SCFNet.parallel import in_parallel
from SCFNet.photos.images import write_image
from SCFNet.prediction.jobs import plan_jobs
from SCFNet.prediction.pipeline import predict_jobs
from SCFNet.prediction.rendering import RenderOptions
from SCFNet.predictor import Predictor
from SCFNet.scoring.tables import Row

ROOT = Path(__file__).resolve().parents[2]


def measure_all(folder: Optional[Path] = None, rounds: int = 5) -> List[Row]:
    """Measure on the CPU with the default weights. A row has what is measured, what it is measured
    against, their ratio, and the ratio to reach.

    The two sides of a ratio take turns for `rounds` rounds, and the best of each counts. `folder`
    holds the photos; by default 300 are made. Raises InputError if there are none in it.
    """
    with tempfile.TemporaryDirectory() as temporary:
        photos = folder or make_photos(Path(temporary) / "photos", 300)
        photo = next(iter(list_folder(photos).values()))
        with tqdm(total=3, desc="measuring", leave=False) as bar:
            rows = [_network_row(rounds)]
            bar.update()
            rows.append(_process_row(photo, Path(temporary), rounds))
            bar.update()
            rows += _folder_rows(photos, Path(temporary), rounds)
    return rows


def make_photos(folder: Path, count: int) -> Path:
    """Write `count` JPEG photos of 481 x 321, the size of SOD's, crops of one photo; the folder."""
    from skimage.data import retina

    photo = retina()
    rng = np.random.default_rng(0)
    for i in range(count):
        top, left = rng.integers(0, 1411 - 481, 2)
        write_image(folder / f"{i:05}.jpg", photo[top : top + 321, left : left + 481])
    return folder


def best_in_turns(ways: Mapping[str, Way], rounds: int) -> Dict[str, float]:
    """Time each way and return the seconds of its fastest call; the ways take turns."""
    return {name: float(times.min()) for name, times in time_in_turns(ways, rounds).items()}


def _row(what: str, value: float, against: str, other: float, unit: str, reach: str) -> Row:
    return {
        "what": what,
        "value": f"{value:.4g} {unit}",
        "against": against,
        "its value": f"{other:.4g} {unit}",
        "ratio": value / other,
        "to reach": reach,
    }


def _network_row(rounds: int) -> Row:
    backends = [
        open_paddle(DEFAULT_WEIGHTS, "cpu", None),
        open_onnx(DEFAULT_WEIGHTS.with_suffix(".onnx")),
    ]
    x = np.random.default_rng(0).standard_normal((1, 3, 352, 352)).astype("float32")

    def warmed_up(backend: Backend) -> Way:
        backend.run(x)
        return lambda: backend.run(x)

    ways = {backend.name: warmed_up(backend) for backend in backends}
    best = best_in_turns(ways, 20 * rounds)
    what = "network, batch 1, 352 x 352, ONNX engine"
    return _row(what, best["onnx"] * 1e3, "dygraph", best["paddle"] * 1e3, "ms", "<= 0.2")


def _process_row(photo: Path, temporary: Path, rounds: int) -> Row:
    def run(engine: str) -> Way:
        command = [sys.executable, str(ROOT / "tools" / "predict.py"), str(photo)]
        command += ["--device", "cpu", "--engine", engine, "--output", str(temporary / "one")]
        return lambda: subprocess.run(command, check=True, stderr=subprocess.DEVNULL)

    best = best_in_turns({engine: run(engine) for engine in ("onnx", "paddle")}, rounds)
    what = "predict.py one.jpg, ONNX engine"
    return _row(what, best["onnx"], "Paddle engine", best["paddle"], "s", "<= 0.25")


def _folder_rows(photos: Path, temporary: Path, rounds: int) -> List[Row]:
    """Predict a folder in a process of its own."""
    command = [sys.executable, "-m", "SCFNet.benchmarks.deploy"]
    command += [str(photos), str(temporary / "masks"), str(rounds)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    seen = json.loads(done.stdout)
    what = f"folder of {seen['photos']} photos, masks written"
    alone = "network alone, one photo after another"
    beside = "network alone, photos side by side"
    return [
        _row(what, seen["folder"], alone, seen["alone"], "images/s", ">= 0.75"),
        _row(what, seen["folder"], beside, seen["beside"], "images/s", ""),
        _row("peak memory of that run", seen["peak"], "the limit", 400, "MB", "< 1"),
    ]


def main() -> None:
    """Print, as JSON, the images/s of a folder and of the network alone, and the peak memory.

    sys.argv has the folder of photos, that of the masks, and the number of rounds.
    """
    import onnxruntime

    photos, output, rounds = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    exported = DEFAULT_WEIGHTS.with_suffix(".onnx")
    predictor = Predictor(exported)
    jobs = plan_jobs([str(photos)], output, [".png"])
    predict_jobs(predictor, jobs, RenderOptions())
    peak = _peak_memory()

    session = onnxruntime.InferenceSession(str(exported), providers=["CPUExecutionProvider"])
    backend = open_onnx(exported)
    x = np.zeros((1, 3, 352, 352), "float32")
    count = min(100, len(jobs))
    best = best_in_turns(
        {
            "threads": lambda: [session.run([OUTPUT], {INPUT: x}) for _ in range(count)],
            "loop": lambda: [backend.run(x) for _ in range(count)],
            "beside": lambda: list(in_parallel(backend.run, [x] * count)),
            "folder": lambda: predict_jobs(predictor, jobs, RenderOptions()),
        },
        rounds,
    )
    speed = {
        "photos": len(jobs),
        "folder": len(jobs) / best["folder"],
        "alone": count / min(best["threads"], best["loop"]),
        "beside": count / best["beside"],
        "peak": peak,
    }
    print(json.dumps(speed))


def _peak_memory() -> float:
    """Read this process's, in MB. `getrusage` would count the parent's from before the exec."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()
