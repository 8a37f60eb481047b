"""Size and speed of the networks: Params, FLOPs, MACCs, latency, throughput and peak memory."""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from typing import List, Sequence

import numpy as np
import paddle
from tqdm import tqdm

from SCFNet.benchmarks.timing import Way
from SCFNet.device import peak_memory_mb, set_device
from SCFNet.scoring.cost import cost
from SCFNet.scoring.tables import Row
from SCFNet.zoo import build_network

ENGINES = ("dygraph", "static")


def seconds_per_call(call: Way, seconds: float) -> np.ndarray:
    """Time calls, [n >= 3], for about `seconds` in all, after a warm-up of a fifth of that."""
    for least, budget in ((1, seconds / 5), (3, seconds)):
        times: List[float] = []
        while len(times) < least or sum(times) < budget:
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
    return np.array(times)


def measure(model: str, engine: str, device: str, batches: Sequence[int], seconds: float) -> Row:
    """Measure a network with random weights: a row of the table.

    The latency is of one image of the network's input size in memory to its map in memory; the
    peak memory is this process's up to then.

    Args:
        model: the network's name.
        engine: 'dygraph', or 'static' (`paddle.jit.to_static`).
        device: 'auto', 'cpu', 'gpu' or 'gpu:N'.
        batches: the batch sizes for which throughput is measured.
        seconds: how long each number is measured, about.
    """
    set_device(device)
    device = paddle.device.get_device()
    net = build_network(model)
    size = net.input_size
    row: Row = {"model": model, "engine": engine, "device": device, "size": size}
    row.update(cost(net))
    network = paddle.jit.to_static(net) if engine == "static" else net

    def forward(batch: int) -> Way:
        images = np.random.default_rng(0).random((batch, 3, size, size), "float32")
        return lambda: network(paddle.to_tensor(images))[0].numpy()

    with paddle.no_grad():
        latency = 1000 * seconds_per_call(forward(1), seconds)
        row["latency_ms"] = float(np.median(latency))
        row["p95_ms"] = float(np.percentile(latency, 95))
        row["fps"] = float(1000 / latency.mean())
        row["peak_mb"] = peak_memory_mb()
        for batch in batches:
            times = seconds_per_call(forward(batch), seconds)
            row[f"images/s, batch {batch}"] = float(batch / times.mean())
    return row


def measure_all(
    models: Sequence[str],
    engines: Sequence[str],
    device: str,
    batches: Sequence[int],
    seconds: float,
) -> List[Row]:
    """Measure every model by every engine, each in a process of its own: so is its peak memory.

    The parameters are those of `measure`.
    """
    cases = [(model, engine, device, batches, seconds) for model in models for engine in engines]
    rows = []
    for case in tqdm(cases, unit="model", disable=None):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            rows.append(process.submit(measure, *case).result())
    return rows
