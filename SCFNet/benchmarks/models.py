"""Size and speed of the networks: Params, FLOPs, MACCs, latency, throughput and peak memory."""

import sys
import time
from typing import List, Sequence

import numpy as np

from SCFNet.benchmarks.timing import Way, in_own_process, seconds_per_call
from SCFNet.device import peak_memory_mb, set_device
from SCFNet.scoring.cost import cost
from SCFNet.scoring.tables import Row
from SCFNet.zoo import build_network


def measure(model: str, engine: str, device: str, batches: Sequence[int], seconds: float) -> Row:
    """Measure the network `model` with random weights: a row of the table.

    `engine` is 'dygraph', or 'static' (`paddle.jit.to_static`). The latency is of one image of the
    network's input size in memory to its map in memory; the peak memory is this process's up to
    then. Throughput is measured for each size of `batches`, each number for about `seconds`.
    """
    import paddle

    device = set_device(device)
    net = build_network(model)
    size = net.input_size
    row: Row = {"model": model, "engine": engine, "device": device, "size": size, **cost(net)}
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
            times = latency / 1000 if batch == 1 else seconds_per_call(forward(batch), seconds)
            row[f"images/s, batch {batch}"] = float(batch / times.mean())
    return row


def measure_all(
    models: Sequence[str],
    engines: Sequence[str],
    device: str,
    batches: Sequence[int],
    seconds: float,
) -> List[Row]:
    """Measure every model by every engine as `measure` does, each in a process of its own, and
    print on stderr when each begins and ends.
    """
    cases = [(model, engine) for model in models for engine in engines]
    rows = []
    for number, (model, engine) in enumerate(cases, 1):
        print(f"{number}/{len(cases)} {model}, {engine}: ", end="", file=sys.stderr, flush=True)
        start = time.perf_counter()
        rows.append(in_own_process(measure, model, engine, device, batches, seconds))
        spent = time.perf_counter() - start
        print(f"{rows[-1]['latency_ms']:.4g} ms a photo ({spent:.0f} s)", file=sys.stderr)
    return rows


def join(scores: Sequence[Row], measured: Sequence[Row]) -> List[Row]:
    """Add to each method's scores the measurements of its network.

    The rows have the same keys; an unknown value is None.
    """
    rows = []
    for score in scores:
        found = [row for row in measured if row["model"] == score["model"]]
        rows += [{**score, **row} for row in found or [{}]]
    keys = {key: None for row in [*scores, *measured] for key in row}
    return [{**keys, **row} for row in rows]
