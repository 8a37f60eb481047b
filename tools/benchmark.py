"""Measure size and speed, print a table, and keep its rows with --json FILE.

    python tools/benchmark.py              # the networks: Params, FLOPs, MACCs, latency, memory
    python tools/benchmark.py --models M3_0.5 R50 --engines dygraph static --batches 1 8
    python tools/benchmark.py --deploy     # ONNX Runtime beside Paddle; predicting a folder
    python tools/benchmark.py --metrics    # scoring a map, and a folder
    python tools/benchmark.py --edges      # how rough cut-outs are, by the photo's size
    python tools/benchmark.py --training   # loading, the loss, training and distilling

The paper's figures 1 and 3, F against Params, FLOPs, FPS and MACCs, a point for each method that
tools/eval.py has scored. The networks of its --weights are measured; other methods can be added to
results.json by hand. This draws results.png and, figure 1, results-bubbles.png:

    python tools/benchmark.py --scores scores.json --json results.json
    python tools/benchmark.py --plot results.json

FLOPs and Params are as the paper prints them: of SCFNet by paddle.flops, of other networks by
ptflops, at 352x352 (a multiply-add is one). MACCs are the multiply-adds of convolutions and linear
layers alone. FPS is at batch 1 and the network's own size, without reading files.
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, List

import _repository  # noqa: F401

from SCFNet.cli import Parser, run

if TYPE_CHECKING:
    from SCFNet.scoring.tables import Row


def parse_arguments() -> argparse.Namespace:
    from SCFNet.zoo import NETWORKS

    parser = Parser(__doc__)
    subject = parser.add_mutually_exclusive_group()
    add = subject.add_argument
    add("--metrics", action="store_true", help="time scoring")
    add("--training", action="store_true", help="time training, its parts, and distilling")
    add("--deploy", action="store_true", help="time ONNX Runtime, and predicting a folder")
    add("--edges", action="store_true", help="measure how rough cut-outs of smooth shapes are")
    add("--plot", type=Path, metavar="FILE", help="draw figures 3 and 1 of the rows in this file")
    add = parser.add_argument
    add(
        "--models",
        "--model",
        nargs="+",
        choices=NETWORKS,
        metavar="NAME",
        help=f"networks to measure: {', '.join(NETWORKS)}; default: those of --scores, or all",
    )
    add(
        "--engines",
        nargs="+",
        default=["dygraph"],
        choices=["dygraph", "static"],
        help="ways to run the networks in Paddle; default: dygraph",
    )
    add("--device", default="auto", help="device to run on: auto, cpu, gpu or gpu:N; default: auto")
    add(
        "--batches",
        nargs="+",
        type=int,
        default=[1, 8],
        metavar="N",
        help="batch sizes for which images a second are measured; default: 1 8",
    )
    add(
        "--seconds",
        type=float,
        default=3,
        metavar="X",
        help="time to spend on each number, about; default: 3",
    )
    add(
        "--photos",
        type=Path,
        metavar="DIR",
        help="folder of photos for --deploy; default: 300 are made",
    )
    add("--scores", type=Path, metavar="FILE", help="a row for each method in this eval.py --json")
    add("--json", type=Path, metavar="FILE", help="keep the rows in this file")
    args = parser.parse_args()
    if min(args.batches) < 1:
        parser.error("--batches must be at least 1")
    if args.plot and args.plot.suffix == ".png":
        parser.error(f"--plot {args.plot}: the figure would replace it; call the rows *.json")
    args.models = args.models or ([] if args.scores else list(NETWORKS))
    return args


def measure(args: argparse.Namespace) -> List[List["Row"]]:
    """Measure what the arguments ask for; the rows of each table."""
    if args.metrics:
        from SCFNet.benchmarks import metrics

        return [metrics.compare(rounds=50), metrics.scale_workers(images=2000)]
    if args.deploy:
        from SCFNet.benchmarks import deploy

        return [deploy.measure_all(args.photos)]
    if args.edges:
        from SCFNet.benchmarks import edges

        return [edges.measure_all()]
    if args.training:
        from SCFNet.benchmarks import training

        return [training.parts(), training.runs()]
    from SCFNet.benchmarks import models
    from SCFNet.scoring.report import read_scores
    from SCFNet.zoo import NETWORKS

    scores = read_scores(args.scores) if args.scores else []
    names = args.models or [name for name in NETWORKS if name in [row["model"] for row in scores]]
    measured = models.measure_all(names, args.engines, args.device, args.batches, args.seconds)
    return [models.join(scores, measured) if scores else measured]


def main() -> int:
    args = parse_arguments()
    from SCFNet.files import without_suffix, write_atomically
    from SCFNet.scoring.plots import plot_figure1, plot_figure3
    from SCFNet.scoring.report import read_rows
    from SCFNet.scoring.tables import measurements

    if args.plot:
        rows = read_rows(args.plot)
        stem = without_suffix(args.plot, [".json"])
        figure, bubbles = Path(f"{stem}.png"), Path(f"{stem}-bubbles.png")
        plot_figure3(rows, figure)
        plot_figure1(rows, bubbles)
        print(figure, bubbles, sep="\n")
        return 0
    tables = measure(args)
    if args.json:
        rows = [row for table in tables for row in table]
        write_atomically(args.json, json.dumps(rows, indent=1).encode())
    print("\n\n".join(map(measurements, tables)))
    return 0


if __name__ == "__main__":
    run(main)
