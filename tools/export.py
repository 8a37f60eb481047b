"""Export a checkpoint for deployment; it is checked against Paddle on a photo first.

    python tools/export.py --weights weights/KD-SCFNet-DUTS.pdparams      # the .onnx file beside it
    python tools/export.py --weights small --output out/512.onnx --size 512 --dynamic-batch
    python tools/export.py --weights small --format paddle --output out/small    # Paddle Inference
    python tools/export.py --weights u2netp.pth --format pdparams      # from PyTorch to Paddle
    python tools/export.py --weights output/KD/last.pdparams --format pdparams --sharpen 2 \\
        --output output/sharp.pdparams      # maps that are less soft: sigmoid(2 * logits)

tools/predict.py finds an .onnx file that lies beside its checkpoint by itself. The files' metadata
(for paddle: STEM.meta) says size, normalisation, and the names of input and output.
"""

import _repository  # noqa: F401

from SCFNet.cli import Parser, run


def main() -> int:
    parser = Parser(__doc__)
    add = parser.add_argument
    add(
        "--weights",
        required=True,
        metavar="NAME|FILE",
        help="checkpoint to export: small or accurate (the shipped ones), or a file",
    )
    add(
        "--format",
        choices=["onnx", "paddle", "pdparams"],
        default="onnx",
        help="format to write; default: onnx",
    )
    add("--output", metavar="PATH", help="file or folder to write; default: beside the checkpoint")
    add("--size", type=int, metavar="N", help="side of the input; default: the network's own")
    add("--dynamic-batch", action="store_true", help="take any number of images a run, not one")
    add(
        "--sharpen",
        type=float,
        default=1,
        metavar="FACTOR",
        help="multiply the logits, for --format pdparams; default: 1",
    )
    args = parser.parse_args()

    from SCFNet.checkpoint import check_weights, find_weights

    weights = find_weights(args.weights)
    check_weights(weights)
    from SCFNet.export import export  # after --help and a wrong name: it loads Paddle

    files = export(weights, args.format, args.output, args.size, args.dynamic_batch, args.sharpen)
    for file in files:
        print(file)
    return 0


if __name__ == "__main__":
    run(main)
