"""Find the salient object in photos and videos.

    python tools/predict.py photo.jpg                      # output/photo.png, the mask
    python tools/predict.py photos/ --save mask cutout     # every photo below a folder
    python tools/predict.py 'trip/*.jpg' --save overlay --output shown --skip-existing
    python tools/predict.py photo.jpg --save cutout --background white --crop
    python tools/predict.py clip.mp4 --save overlay --every 3
    python tools/predict.py photos/ --weights weights/R50.pdparams --device gpu --batch-size 16

Inputs are images, videos, folders (searched recursively for images; the tree is kept in the output)
and glob patterns. Per photo STEM.png is the mask, STEM-cutout.png the object on nothing (or on
--background), STEM-overlay.jpg the photo with the object tinted and outlined. A video gives MP4
files of its size and rate, without sound; its cut-out lies on green, or on --background.

On a CPU ONNX Runtime runs the network, without Paddle, where tools/export.py has put an .onnx file
beside the checkpoint; --engine says which of the two is to run.
Exit status: 0 all written, 1 some inputs failed (each is listed), 2 wrong usage.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from SCFNet.cli import run

KINDS = ("mask", "cutout", "overlay")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("inputs", nargs="+", metavar="INPUT", help="image, video, folder or glob pattern")
    add("--output", type=Path, default=Path("output"), metavar="DIR", help="default: output")
    add("--save", nargs="+", choices=KINDS, default=["mask"], help="default: mask")
    add("--weights", metavar="FILE", help="checkpoint (.pdparams) or exported file (.onnx)")
    add("--backbone", help="check that the weights are of this network; default: any")
    add("--device", default="auto", help="auto, cpu, gpu or gpu:N; default: auto")
    add("--engine", choices=["auto", "paddle", "onnx"], default="auto", help="default: auto")
    add("--size", type=int, help="the network's input size; default: 352, for ST 384")
    add("--batch-size", type=int, default=1, help="photos per run of the network; default: 1")
    add("--threshold", type=float, metavar="T", help="hard mask: object where the map is >= T")
    add("--crop", action="store_true", help="crop everything saved to the object's box")
    add("--background", metavar="COLOR|IMAGE", help="lay cut-outs over a colour or a picture")
    add("--align-corners", action="store_true", help="resize maps as the release's test script")
    add("--skip-existing", action="store_true", help="leave out inputs whose results are there")
    add("--every", type=int, default=1, metavar="N", help="videos: a new map each N frames")
    args = parser.parse_args()
    if args.batch_size < 1 or args.every < 1:
        parser.error("--batch-size and --every must be at least 1")
    if args.threshold is not None and not 0 <= args.threshold <= 1:
        parser.error("--threshold must be from 0 to 1")

    from SCFNet.prediction.jobs import plan_jobs
    from SCFNet.prediction.pipeline import RenderOptions, predict_jobs
    from SCFNet.prediction.rendering import ENDINGS, parse_background
    from SCFNet.predictor import Predictor

    style = RenderOptions(
        kinds=args.save,
        align_corners=args.align_corners,
        threshold=args.threshold,
        crop=args.crop,
        background=args.background and parse_background(args.background),
    )
    jobs = plan_jobs(args.inputs, args.output, [ENDINGS[kind] for kind in args.save])
    if args.skip_existing:
        jobs = [job for job in jobs if not all(target.exists() for target in job.targets)]
    predictor = Predictor(args.weights, args.backbone, args.device, args.size, args.engine)
    errors = predict_jobs(predictor, jobs, style, args.batch_size, args.every)
    for error in errors:
        print(f"error: {error}", file=sys.stderr)
    if len(jobs) > 1:
        print(f"{len(jobs) - len(errors)} of {len(jobs)} done, in {args.output}", file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    run(main)
