"""Measure size and speed; each prints one table, and --json keeps its rows.

python tools/benchmark.py                  every backbone: Params, FLOPs, MACCs, latency, memory
python tools/benchmark.py --models M3_0.5 R50 --engines dygraph static --batches 1 8 --device cpu
python tools/benchmark.py --metrics        the measures of tools/eval.py against other ways

FLOPs are as the paper prints them (paddle.flops: a multiply-add is one). MACCs are the
multiply-adds of convolutions and linear layers alone. FPS is at batch 1, without reading files.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from backbones import BACKBONES
from datasets.files import write_atomically
from SCFNet.cli import run
from SCFNet.tables import measurements


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subject = parser.add_mutually_exclusive_group()
    subject.add_argument("--metrics", action="store_true", help="measure tools/eval.py's measures")
    parser.add_argument("--models", nargs="+", default=list(BACKBONES), choices=list(BACKBONES))
    parser.add_argument("--engines", nargs="+", default=["dygraph"], choices=["dygraph", "static"])
    parser.add_argument("--device", default="auto", help="auto, cpu, gpu or gpu:N (default: auto)")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8], metavar="N")
    parser.add_argument("--seconds", type=float, default=5, help="for each number (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the rows in this file")
    args = parser.parse_args()

    if args.metrics:
        from SCFNet import bench_metrics

        rows = bench_metrics.compare(rounds=50)
    else:
        from SCFNet import bench_models

        rows = bench_models.measure_all(
            args.models, args.engines, args.device, args.batches, args.seconds
        )
    print(measurements(rows))
    if args.json:
        write_atomically(args.json, json.dumps(rows, indent=1).encode())
    return 0


if __name__ == "__main__":
    run(main)
