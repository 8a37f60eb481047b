"""Score saliency maps: the paper's tables.

    python tools/eval.py --masks data/ECSSD/mask --maps maps/U2Net
    python tools/eval.py --masks data/ECSSD/mask --maps U2Net=maps/a CPD=maps/b --plot output/plots
    python tools/eval.py --data data/ECSSD data/DUTS-TE --maps U2Net=maps/U2Net CPD=maps/CPD
    python tools/eval.py --data data/SOD --weights output/FS/best.pdparams --save-maps output/maps
    python tools/eval.py --masks data/SOD/mask --maps output --json scores.json --latex table1.tex

With --data the maps of NAME=ROOT are ROOT/SET/*.png, and --weights predicts them itself: both may
be given. Prints the paper's Table 1 in Markdown. Cut-outs and overlays that tools/predict.py wrote
beside its masks are no maps. --protocol paper is the toolbox behind the paper's
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
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from SCFNet.cli import run


def parse_arguments() -> argparse.Namespace:
    from SCFNet.metrics import PROTOCOLS
    from SCFNet.prediction.parallel import cores

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_argument_group("what to score")
    masks = what.add_mutually_exclusive_group(required=True)
    masks.add_argument("--masks", type=Path, metavar="DIR", help="the masks of one set")
    masks.add_argument(
        "--data", nargs="+", type=Path, default=(), metavar="SET", help="data sets, with mask/"
    )
    what.add_argument(
        "--maps", nargs="+", default=[], metavar="[NAME=]DIR", help="a folder of maps per method"
    )
    what.add_argument(
        "--weights",
        nargs="+",
        default=[],
        metavar="[NAME=]FILE",
        help="checkpoints that predict, or small, accurate",
    )
    what.add_argument("--device", default="auto", help="for --weights: auto, cpu, gpu or gpu:N")
    what.add_argument(
        "--save-maps", type=Path, metavar="DIR", help="keep predictions as DIR/NAME/SET/STEM.png"
    )
    how = parser.add_argument_group("how to score")
    how.add_argument(
        "--protocol", choices=list(PROTOCOLS), default="paper", help="default: paper, see above"
    )
    how.add_argument(
        "--workers", type=int, default=cores(), metavar="N", help="processes; default: one a core"
    )
    how.add_argument(
        "--allow-missing", action="store_true", help="average over the maps that can be read"
    )
    out = parser.add_argument_group("what to write, beside the table that is printed")
    out.add_argument("--json", type=Path, metavar="FILE", help="all values and curves")
    out.add_argument("--csv", type=Path, metavar="FILE", help="a line for each method and set")
    out.add_argument("--per-image", type=Path, metavar="FILE", help="a CSV line for each image")
    out.add_argument("--latex", type=Path, metavar="FILE", help="the table, to \\input")
    out.add_argument("--plot", type=Path, metavar="DIR", help="curves of precision, recall and F")
    out.add_argument(
        "--costs", type=Path, metavar="FILE", help="JSON with Params and FLOPs of methods to print"
    )
    args = parser.parse_args()
    if not args.maps and not args.weights:
        parser.error("give --maps or --weights")
    if args.weights and not args.data:
        parser.error("--weights needs --data: it predicts from SET/image")
    if args.save_maps and not args.weights:
        parser.error("--save-maps needs --weights")
    outputs = [args.json, args.csv, args.per_image, args.latex]
    named = [path.resolve() for path in outputs if path]
    if len(set(named)) < len(named):
        parser.error("--json, --csv, --per-image and --latex need a file each")
    if args.workers < 1:
        parser.error("--workers must be at least 1")
    return args


def main() -> int:
    args = parse_arguments()
    from SCFNet.scoring import plots, report
    from SCFNet.scoring.evaluation import Sources, score_methods

    costs = report.read_costs(args.costs) if args.costs else {}
    if args.plot:
        plots.check_matplotlib()
    sources = Sources(args.masks, args.data, args.maps, args.weights, args.device, args.save_maps)
    with ExitStack() as stack:
        per_image = args.per_image and stack.enter_context(report.per_image_csv(args.per_image))
        results, found = score_methods(
            sources, args.protocol, args.workers, args.allow_missing, per_image
        )
    costs.update(found)
    table = report.paper_table(results, args.protocol, costs)
    texts = [
        (args.json, report.to_json(results, args.protocol, costs)),
        (args.csv, report.to_csv(results, args.protocol)),
        (args.latex, report.latex_table(results, args.protocol, costs)),
    ]
    try:
        report.save_texts([(path, text) for path, text in texts if path])
        if args.plot:
            plots.plot_precision_recall(results, args.plot / "precision_recall.png")
            plots.plot_f_thresholds(results, args.plot / "f_threshold.png")
    finally:
        print(table)
    return 0


if __name__ == "__main__":
    run(main)
