"""Export a checkpoint for deployment; it is checked against Paddle on a photo first.

    python tools/export.py --weights weights/SCFNet.pdparams            # weights/SCFNet.onnx
    python tools/export.py --weights R50.pdparams --output out/R50.onnx --size 512 --dynamic-batch
    python tools/export.py --weights R50.pdparams --format paddle       # for Paddle Inference
    python tools/export.py --weights u2netp.pth --format pdparams       # from PyTorch to Paddle

tools/predict.py finds an .onnx file that lies beside its checkpoint by itself. The files' metadata
(for paddle: STEM.meta) says size, normalisation, and the names of input and output.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from SCFNet.cli import run


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--weights", required=True, metavar="NAME|FILE", help="small, accurate or a checkpoint")
    add("--format", choices=["onnx", "paddle", "pdparams"], default="onnx", help="default: onnx")
    add("--output", type=Path, metavar="FILE", help="default: beside the checkpoint")
    add("--size", type=int, help="height and width of the input; default: the network's")
    add("--dynamic-batch", action="store_true", help="any number of images a run; default: one")
    args = parser.parse_args()

    from SCFNet.checkpoint import check_weights, find_weights

    weights = find_weights(args.weights)
    check_weights(weights)
    from SCFNet.export import export  # after --help and a wrong name: it loads Paddle

    for file in export(weights, args.format, args.output, args.size, args.dynamic_batch):
        print(file)
    return 0


if __name__ == "__main__":
    run(main)
