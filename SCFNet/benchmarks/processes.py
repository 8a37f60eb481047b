"""Speed of training by tools/train.py on one process, and on two by paddle.distributed.launch."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import List

from tqdm import tqdm

from SCFNet.benchmarks.loading import write_photos
from SCFNet.errors import InputError
from SCFNet.scoring.tables import Row
from SCFNet.training.state import LOG

TOOL = str(Path(__file__).resolve().parents[2] / "tools" / "train.py")
LAUNCH = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node"]
FLAGS = {"device": "cpu", "pretrained": "none", "sizes": 224, "batch-size": 16, "workers": 1}


def compare(epochs: int, photos: int = 64) -> List[Row]:
    """Make a row for one process and one for two, with the same global batch, on made photos:
    images/s without the first epoch, and the speed-up. Each process computes in one thread.

    Raises InputError if a run fails.
    """
    rows: List[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        write_photos(Path(folder), photos)
        for processes in tqdm((1, 2), unit="run", leave=False, disable=None):
            output = Path(folder, str(processes))
            flags = {**FLAGS, "data": folder, "output": output, "epochs": epochs}
            command = [*LAUNCH, str(processes), "--log_dir", str(output / "logs"), TOOL]
            command += [f"--{name}={value}" for name, value in flags.items()]
            done = subprocess.run(
                command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
            )
            if done.returncode:
                raise InputError(f"{' '.join(command)}: failed: {done.stderr.strip()[-300:]}")
            records = [json.loads(line) for line in (output / LOG).read_text().splitlines()]
            minutes = records[-1]["minutes"] - records[0]["minutes"]
            rows.append({"processes": processes, "images/s": photos * (epochs - 1) / minutes / 60})
    for row in rows:
        row["speed-up"] = row["images/s"] / rows[0]["images/s"]
    return rows
