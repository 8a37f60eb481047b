"""Export a checkpoint for deployment; it is checked against Paddle on a photo first.

    python tools/export.py --weights weights/KD-SCFNet-DUTS.pdparams      # the .onnx file beside it
    python tools/export.py --weights small --output out/512.onnx --size 512 --dynamic-batch
    python tools/export.py --weights small --format paddle --output out/small    # Paddle Inference
    python tools/export.py --weights u2netp.pth --format pdparams      # from PyTorch to Paddle
    python tools/export.py --weights output/KD/last.pdparams --format pdparams --sharpen 2 \\
        --output output/sharp.pdparams      # maps that are less soft: sigmoid(2 * logits)

For other programs, each checked on a photo:

    python tools/export.py --weights small --photo-input     # uint8 [H, W, 3] in, map [H, W] out
    python tools/export.py --weights small --photo-input 400 600     # for OpenCV 4: H and W fixed
    python tools/export.py --weights accurate --int8 photos/     # calibrated on these photos
    python tools/export.py --weights accurate --rembg     # for rembg's u2net_custom

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
    add = parser.add_mutually_exclusive_group().add_argument
    add(
        "--photo-input",
        type=int,
        nargs="*",
        metavar="PX",
        help="resize and normalise in the file: it takes photos, uint8 [H, W, 3], of any size, or "
        "of the height and width PX PX, and gives maps of their size",
    )
    add(
        "--int8",
        metavar="FOLDER",
        help="8-bit integers, calibrated on the photos in this folder; faster on CPUs with VNNI",
    )
    add("--rembg", action="store_true", help="take the input that rembg feeds its u2net_custom")
    args = parser.parse_args()
    if args.photo_input and (len(args.photo_input) != 2 or min(args.photo_input) < 1):
        parser.error("--photo-input takes no number, or height and width")

    from datasets.sod import list_folder
    from SCFNet.checkpoint import check_weights, find_weights
    from SCFNet.variants import Variant

    variant = None
    if args.photo_input is not None:
        variant = Variant("photo", shape=args.photo_input)
    elif args.int8:
        variant = Variant("int8", photos=list(list_folder(args.int8).values()))
    elif args.rembg:
        variant = Variant("rembg")
    weights = find_weights(args.weights)
    check_weights(weights)
    from SCFNet.export import export  # after --help and a wrong name: it loads Paddle

    files = export(
        weights, args.format, args.output, args.size, args.dynamic_batch, args.sharpen, variant
    )
    for file in files:
        print(file)
    return 0


if __name__ == "__main__":
    run(main)
