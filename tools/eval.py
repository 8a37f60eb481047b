"""Score saliency maps: the paper's tables.

    python tools/eval.py --masks data/ECSSD/mask --maps maps/U2Net
    python tools/eval.py --masks data/ECSSD/mask --maps U2Net=maps/a CPD=maps/b --plot output/plots
    python tools/eval.py --data data/ECSSD data/DUTS-TE --maps U2Net=maps/U2Net CPD=maps/CPD
    python tools/eval.py --data data/SOD --weights output/FS/best.pdparams --save-maps output/maps
    python tools/eval.py --masks data/SOD/mask --maps output --json scores.json --latex table1.tex

With --data the maps of NAME=ROOT are ROOT/SET/*.png, and --weights predicts them itself: both may
be given. Cut-outs and overlays that tools/predict.py wrote beside its masks are no maps. Prints the
paper's Table 1 in Markdown. --protocol paper is the toolbox behind the paper's tables, pysod the
PySODMetrics library; their numbers do not compare (see SCFNet/metrics.py).

The commands of all of the paper's tables and figures are in the README.
"""

import argparse
from contextlib import ExitStack
from pathlib import Path

import _repository  # noqa: F401

from SCFNet.cli import Parser, run


def parse_arguments() -> argparse.Namespace:
    from SCFNet.metrics import BINARY, PROTOCOLS
    from SCFNet.parallel import cores

    parser = Parser(__doc__)
    what = parser.add_argument_group("what to score")
    one_of = what.add_mutually_exclusive_group(required=True)
    one_of.add_argument("--masks", type=Path, metavar="DIR", help="folder with one set's masks")
    add = one_of.add_argument
    add(
        "--data", nargs="+", type=Path, default=(), metavar="SET", help="data sets, each with mask/"
    )
    add = what.add_argument
    add("--maps", nargs="+", default=[], metavar="[NAME=]DIR", help="each method's folder of maps")
    networks = "networks that predict the maps: checkpoints, .onnx files, small or accurate"
    add("--weights", nargs="+", default=[], metavar="[NAME=]FILE", help=networks)
    add = parser.add_argument_group("how --weights predict").add_argument
    add("--device", default="auto", help="device to run on: auto, cpu, gpu or gpu:N; default: auto")
    add("--size", type=int, metavar="N", help="side of the input in pixels; default: their own")
    add(
        "--align-corners", action="store_true", help="resize maps as the release's test script does"
    )
    add("--save-maps", type=Path, metavar="DIR", help="keep the maps as DIR/NAME/SET/STEM.png")
    add = parser.add_argument_group("how to score").add_argument
    add("--protocol", choices=PROTOCOLS, default="paper", help="of the measures; default: paper")
    names = sorted({name for kind in PROTOCOLS.values() for name in kind.all_names()})
    more = f"more columns: Max-F, S-measure, ..., and, at a threshold of .5, {', '.join(BINARY)}"
    add("--metrics", nargs="+", default=[], choices=names, metavar="NAME", help=more)
    processes = "processes that score; default: one for each core"
    add("--workers", type=int, default=cores(), metavar="N", help=processes)
    there = "average over the maps that are there and can be read"
    add("--allow-missing", action="store_true", help=there)
    out = parser.add_argument_group("what to write, beside the table that is printed")
    files = (
        ("--json", "FILE", "write all values and curves as JSON"),
        ("--csv", "FILE", "write a CSV line for each method and set"),
        ("--per-image", "FILE", "write a CSV line for each image"),
        ("--latex", "FILE", "write the table for LaTeX, to \\input"),
        ("--plot", "DIR", "draw curves of precision, recall and F"),
        ("--grid", "FILE", "draw photos, masks and every method's maps"),
        ("--costs", "FILE", 'take Params and FLOPs of --maps from this JSON file: {"NAME": '
         '{"params": 25.5, "flops": 13.1}, ...}, in millions and billions'),
    )  # fmt: skip
    for flag, metavar, text in files:
        out.add_argument(flag, type=Path, metavar=metavar, help=text)
    above = "put the paper's own rows above the table's"
    out.add_argument("--published", action="store_true", help=above)
    args = parser.parse_args()
    if not args.maps and not args.weights:
        parser.error("give --maps or --weights")
    if args.weights and not args.data:
        parser.error("--weights needs --data: it predicts from SET/image")
    for flag in ("--save-maps", "--size", "--align-corners"):
        if getattr(args, flag[2:].replace("-", "_")) and not args.weights:
            parser.error(f"{flag} needs --weights")
    if args.grid and not args.data:
        parser.error("--grid needs --data: its photos are in SET/image")
    if args.published and args.protocol != "paper":
        parser.error("--published: the paper's numbers are of --protocol paper")
    outputs = [args.json, args.csv, args.per_image, args.latex, args.grid]
    named = [path.resolve() for path in outputs if path]
    if len(set(named)) < len(named):
        parser.error("--json, --csv, --per-image, --latex and --grid need a file each")
    kind = PROTOCOLS[args.protocol]
    for name in args.metrics:
        if name not in kind.all_names():
            parser.error(f"--metrics {name}: the protocol {args.protocol} has no such measure")
    args.metrics = [name for name in dict.fromkeys(args.metrics) if name not in kind.table]
    if args.workers < 1:
        parser.error("--workers must be at least 1")
    return args


def main() -> int:
    args = parse_arguments()
    from SCFNet.metrics import BINARY
    from SCFNet.scoring import plots, report
    from SCFNet.scoring.evaluation import Sources, find_tasks
    from SCFNet.scoring.paper_table import paper_table, to_latex, to_markdown
    from SCFNet.scoring.tasks import score_tasks

    costs = report.read_costs(args.costs) if args.costs else {}
    if args.plot or args.grid:
        plots.check_matplotlib()
    sources = Sources(**{name: getattr(args, name) for name in Sources._fields})
    binary = [name for name in args.metrics if name in BINARY]
    with find_tasks(sources, args.allow_missing) as (tasks, found):
        costs.update(found)
        with ExitStack() as stack:
            per_image = args.per_image and stack.enter_context(report.per_image_csv(args.per_image))
            results = score_tasks(
                tasks, args.protocol, args.workers, args.allow_missing, per_image, binary
            )
        table = paper_table(results, args.protocol, costs, args.metrics, args.published)
        texts = (
            (args.json, report.to_json(results, args.protocol, costs)),
            (args.csv, report.to_csv(results, args.protocol)),
            (args.latex, to_latex(table)),
        )
        try:
            report.save_texts([(path, text) for path, text in texts if path])
            if args.plot:
                plots.plot_curves(results, args.plot)
            if args.grid:
                plots.plot_grid(tasks, args.data, args.grid)
        finally:
            print(to_markdown(table))
    return 0


if __name__ == "__main__":
    run(main)
