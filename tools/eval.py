"""Score saliency maps: the paper's tables.

    python tools/eval.py --masks data/ECSSD/mask --maps maps/U2Net
    python tools/eval.py --masks data/ECSSD/mask --maps U2Net=maps/a CPD=maps/b --plot output/plots
    python tools/eval.py --data data/ECSSD data/DUTS-TE --maps U2Net=maps/U2Net CPD=maps/CPD
    python tools/eval.py --data data/SOD --weights output/FS/best.pdparams --save-maps output/maps

With --data the maps of NAME=ROOT are ROOT/SET/*.png, and --weights predicts them itself: both may
be given. Prints the paper's Table 1 in Markdown. --protocol paper is the toolbox behind the paper's
tables, pysod the PySODMetrics library; their numbers do not compare (see SCFNet/metrics.py).

The ablation of the paper's Table 3, a command for each row, and one for the table:

    python tools/train.py --output output/base --decoder base --loss bce
    python tools/train.py --output output/bce --loss bce
    python tools/train.py --output output/dice --loss dice
    python tools/train.py --output output/sp13 --loss sp --boundary 13
    python tools/train.py --output output/sp5 --loss sp --boundary 5
    python tools/train.py --output output/sp1 --loss sp --boundary 1
    python tools/train.py --output output/pbsm --loss sp --boundary paper
    python tools/eval.py --data data/ECSSD data/DUTS-TE --weights \\
        BASE=output/base/last.pdparams BCE=output/bce/last.pdparams \\
        DICE=output/dice/last.pdparams SP13=output/sp13/last.pdparams \\
        SP5=output/sp5/last.pdparams SP1=output/sp1/last.pdparams PBSM=output/pbsm/last.pdparams
"""

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets.files import write_atomically
from SCFNet.cli import run
from SCFNet.metrics import PROTOCOLS
from SCFNet.scoring.evaluation import evaluate
from SCFNet.scoring.plots import plot_f_thresholds, plot_precision_recall
from SCFNet.scoring.report import paper_table, per_image_csv, read_costs, to_csv, to_json


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_argument_group("what to score")
    masks = what.add_mutually_exclusive_group(required=True)
    masks.add_argument("--masks", type=Path, metavar="DIR", help="the masks of one set")
    masks.add_argument(
        "--data", nargs="+", type=Path, default=(), metavar="SET", help="folders with mask/"
    )
    what.add_argument("--maps", nargs="+", default=[], metavar="[NAME=]DIR", help="maps by method")
    what.add_argument(
        "--weights", nargs="+", default=[], metavar="[NAME=]FILE", help="predict with these"
    )
    what.add_argument("--device", default="auto", help="for --weights: auto, cpu, gpu or gpu:N")
    what.add_argument(
        "--save-maps", type=Path, metavar="DIR", help="keep predictions as DIR/NAME/SET/STEM.png"
    )
    how = parser.add_argument_group("how")
    how.add_argument("--protocol", choices=list(PROTOCOLS), default="paper")
    how.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default: 1)")
    how.add_argument("--allow-missing", action="store_true", help="average over what is there")
    out = parser.add_argument_group("what to write")
    out.add_argument("--json", type=Path, metavar="FILE", help="all values and curves")
    out.add_argument("--csv", type=Path, metavar="FILE", help="all values, a line per method, set")
    out.add_argument("--per-image", type=Path, metavar="FILE", help="CSV: a line per image")
    out.add_argument("--plot", type=Path, metavar="DIR", help="PR and F-threshold curves")
    out.add_argument("--costs", type=Path, metavar="FILE", help="JSON with methods' Params, FLOPs")
    args = parser.parse_args()
    if not args.maps and not args.weights:
        parser.error("give --maps or --weights")
    if args.weights and not args.data:
        parser.error("--weights needs --data: it predicts from SET/image")
    if args.save_maps and not args.weights:
        parser.error("--save-maps needs --weights")
    if args.workers < 1:
        parser.error("--workers must be at least 1")

    costs = read_costs(args.costs) if args.costs else {}
    with per_image_csv(args.per_image) if args.per_image else nullcontext() as per_image:
        results, found = evaluate(
            args.masks,
            args.data,
            args.maps,
            args.weights,
            args.device,
            args.save_maps,
            args.protocol,
            args.workers,
            args.allow_missing,
            per_image,
        )
    costs.update(found)
    print(paper_table(results, args.protocol, costs))
    if args.json:
        write_atomically(args.json, to_json(results, args.protocol, costs).encode())
    if args.csv:
        write_atomically(args.csv, to_csv(results, args.protocol).encode())
    if args.plot:
        plot_precision_recall(results, args.plot / "precision_recall.png")
        plot_f_thresholds(results, args.plot / "f_threshold.png")
    return 0


if __name__ == "__main__":
    run(main)
