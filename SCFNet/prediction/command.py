"""Find the salient object in photos and videos.

    scfnet photo.jpg                      # output/photo.png, the mask
    scfnet photos/ --save mask cutout     # every photo below a folder
    scfnet 'trip/*.jpg' --save overlay --output shown --skip-existing
    scfnet photo.jpg --save cutout --edge-colors --background white --crop
    scfnet clip.mp4 --save overlay --every 3
    scfnet photos/ --weights small --device gpu --batch-size 16
    scfnet photos/ --shard 3/8 --skip-existing                  # the third of eight machines
    scfnet photo.jpg --save cutout --output cut.webp
    scfnet - --save cutout --output - < photo.jpg > cutout.png

`pip install .` brings the command; in a copy of the repository it is `python tools/predict.py`.
Inputs are images, videos, folders (searched recursively for images; the tree is kept in the output)
and glob patterns; - is an image on standard input. Per photo STEM.png is the mask, STEM-cutout.png
the object on nothing (or on --background), STEM-overlay.jpg the photo with the object tinted and
outlined. Of a.jpg and a.png in one folder both keep their suffix in the name: a.jpg.png, a.png.png;
so does a file whose suffix is no image's: scan.001.png. A video
gives MP4 files of its size, its times and its sound; its cut-out is a transparent WebM file, unless
it lies on --background.

On a CPU ONNX Runtime runs the network, without Paddle, if tools/export.py has put an .onnx file
beside the checkpoint; --engine says which of the two is to run.
Exit status: 0 all written, 1 some inputs failed (each is listed), 2 wrong usage.
"""

import argparse
import os
import re
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, List

from SCFNet.cli import Parser, fail, run
from SCFNet.errors import ArgumentError, InputError
from SCFNet.files import exists, is_folder

if TYPE_CHECKING:
    from SCFNet.prediction.jobs import Job

KINDS = ("mask", "cutout", "overlay")
PICTURE_FORMATS, VIDEO_FORMATS = ("png", "webp", "jpg"), ("mp4", "webm", "mov")


def run_command() -> None:
    """Run `scfnet`, and exit with its status."""
    run(main)


def main() -> int:
    """Predict what the command line asks for, and return the exit status."""
    args = parse_arguments()
    if "-" not in (*args.inputs, args.output):
        return predict(args, Path(args.output))
    if "-" in args.inputs and sys.stdin is None:
        raise InputError("standard input is closed: name a file in place of -")
    if args.output == "-" and sys.__stdout__ is None:
        raise InputError("standard output is closed: name a folder by --output")
    with ExitStack() as stack:
        try:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            if "-" in args.inputs:
                (folder / "stdin").write_bytes(sys.stdin.buffer.read())
        except OSError as error:
            fault = error.strerror or error
            raise InputError(f"- cannot be read, or kept in a temporary folder: {fault}") from error
        hidden = f"{folder}{os.sep}"
        args.inputs = [hidden + "stdin" if name == "-" else name for name in args.inputs]
        if args.output != "-":
            return predict(args, Path(args.output), hidden)
        code = predict(args, folder / "stdout", hidden)
        for written in folder.glob("stdout/*"):
            sys.stdout.buffer.write(written.read_bytes())
        return code


def predict(args: argparse.Namespace, output: Path, hidden: str = "") -> int:
    """Write the results to `output`, say how many there are, and return the exit status.

    `hidden`, the folder that stands for standard input and output, is left out of printed paths.
    """
    from SCFNet.checkpoint import DEFAULT_WEIGHTS
    from SCFNet.photos.opening import count_pictures
    from SCFNet.prediction.inputs import describe, find_inputs, is_video
    from SCFNet.prediction.jobs import has_results, in_shard, name_results
    from SCFNet.prediction.pipeline import predict_jobs
    from SCFNet.prediction.rendering import (
        RenderOptions,
        name_endings,
        name_video_endings,
        parse_background,
    )
    from SCFNet.predictor import Predictor

    options = RenderOptions(
        kinds=args.save,
        clean=args.clean,
        align_corners=args.align_corners,
        threshold=args.threshold,
        crop=args.crop,
        background=None if args.background is None else parse_background(args.background),
        edge_colors=args.edge_colors,
    )
    found, left_out = find_inputs(args.inputs, output)
    keep = [Path(args.background)] if args.background else []
    endings = name_endings(args.save, args.picture_format)
    video_endings = name_video_endings(args.save, args.video_format, bool(args.background))
    planned = name_results(found, output, endings, keep, video_endings)
    if args.shard:
        planned = [job for job, f in zip(planned, found) if in_shard(f, *args.shard)]
        say(f"{len(planned)} of {len(found)} are in this shard")
    if args.names_file:
        planned = [name_file(args, planned, keep)]
    # one photo alone has all cores; of several each has one, beside the others
    threads = 0 if len(planned) == 1 and not is_video(planned[0].source) else 1
    weights = DEFAULT_WEIGHTS if args.weights is None else args.weights
    predictor = Predictor(weights, args.backbone, args.device, args.size, args.engine, threads)
    made_by = {every: predictor.made_by(options, every) for every in (1, args.every)}
    planned = [
        job._replace(made_by=made_by[args.every if is_video(job.source) else 1]) for job in planned
    ]
    jobs = [job for job in planned if not (args.skip_existing and has_results(job))]
    if left_out:
        say(f"left out: {describe(left_out)}")
    if len(jobs) < len(planned):
        say(f"{len(planned) - len(jobs)} of {len(planned)} were there already, in {output}")
    if not jobs:
        say("nothing to do")
        return 0
    if args.output == "-" and len(jobs) > 1:
        raise ArgumentError("output", f"- takes one picture, not those of {len(jobs)} inputs")

    for job in jobs:
        pictures = count_pictures(job.source)
        if pictures > 1:
            say(f"{job.source}: of {pictures} pictures the first is taken".replace(hidden, ""))

    if args.weights is None:
        say(f"weights: {predictor.weights}")
    errors = predict_jobs(predictor, jobs, options, args.batch_size, args.every)
    for error in errors:
        fail(error.replace(hidden, ""))
    if len(jobs) > 1:
        say(f"{len(jobs) - len(errors)} of {len(jobs)} done, in {output}")
    elif not errors and args.output != "-":
        say(f"written: {', '.join(map(str, jobs[0].targets))}")
    return 1 if errors else 0


def name_file(args: argparse.Namespace, planned: List["Job"], keep: List[Path]) -> "Job":
    """Return the only job, with the file that --output names as its target.

    Raises ArgumentError if there are more jobs, or if the file is of another kind, or an input.
    """
    from SCFNet.prediction.inputs import is_video

    target = Path(args.output)
    if len(planned) != 1:
        raise ArgumentError("output", f"{target} is one file, not those of {len(planned)} inputs")
    (job,) = planned
    if is_video(job.source) != bool(args.video_format):
        raise ArgumentError("output", f"{target}: of another kind than {job.source.name}")
    inputs = [path for path in (job.source, *keep) if exists(path)]
    if exists(target) and any(map(target.samefile, inputs)):
        raise ArgumentError("output", f"{target} is an input, which stays as it is")
    return job._replace(targets=(target,))


def parse_arguments() -> argparse.Namespace:
    parser = Parser(__doc__)
    add = parser.add_argument
    add(
        "inputs",
        nargs="*",
        type=str,
        metavar="INPUT",
        help="image, video, folder, glob pattern, or -",
    )
    add(
        "--output",
        default="output",
        metavar="PATH",
        help="folder for the results, a file (cut.png) for one result, or - for standard output; "
        "default: output",
    )
    add(
        "--save",
        nargs="+",
        default=["mask"],
        metavar="KIND",
        help=f"pictures to write of each input: {', '.join(KINDS)}; default: mask",
    )
    add(
        "--format",
        nargs="+",
        choices=[*PICTURE_FORMATS, *VIDEO_FORMATS],
        default=[],
        metavar="FORMAT",
        help="format of pictures (png, webp, jpg), of videos (mp4, webm, mov), or one of each; "
        "default: png and mp4, but jpg for overlays, and webm for cut-outs without --background",
    )
    add(
        "--weights",
        metavar="NAME|FILE",
        help="weights to use: small or accurate (the shipped ones), a checkpoint (.pdparams, .pth) "
        "or an .onnx file; default: accurate",
    )
    add("--backbone", metavar="NAME", help="refuse weights of any other network than this")
    add("--device", default="auto", help="device to run on: auto, cpu, gpu or gpu:N; default: auto")
    add(
        "--engine",
        choices=["auto", "paddle", "onnx"],
        default="auto",
        help="what runs the network; default: auto, the faster one that is there",
    )
    add(
        "--size",
        type=int,
        metavar="N",
        help="side of the network's input, in pixels; default: the network's own",
    )
    add(
        "--batch-size",
        type=int,
        default=1,
        metavar="N",
        help="photos in one run of the network; default: 1",
    )
    add(
        "--threshold",
        type=float,
        metavar="X",
        help="make masks hard: what is X or more, from 0 to 1, is the object",
    )
    add("--clean", action="store_true", help="clean masks too, as cut-outs are: no haze, no specks")
    add("--crop", action="store_true", help="crop all pictures to the object's box")
    add(
        "--background",
        type=str,
        metavar="COLOR|IMAGE",
        help="lay cut-outs over a colour or a picture",
    )
    add("--edge-colors", action="store_true", help="free cut-outs' edges from the old background")
    add(
        "--align-corners", action="store_true", help="resize maps as the release's test script does"
    )
    add("--skip-existing", action="store_true", help="leave out inputs whose results are there")
    add(
        "--shard",
        metavar="K/N",
        help="do one part of N, the Kth: N machines, each with its own K, share the inputs",
    )
    add(
        "--every",
        type=int,
        default=1,
        metavar="N",
        help="predict every Nth frame of a video, and repeat its map until the next; default: 1",
    )
    args = parser.parse_args()

    args.save = list(dict.fromkeys(args.save))
    for kind in args.save:
        if kind not in KINDS:
            parser.error(
                f"--save {kind}: choose from {', '.join(KINDS)}; inputs go before it:"
                " scfnet photo.jpg --save mask"
            )
    if not args.inputs:
        parser.error("no INPUT: name images, videos, folders or patterns")
    if args.batch_size < 1 or args.every < 1:
        parser.error("--batch-size and --every must be at least 1")
    if args.shard:
        match = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", args.shard)
        args.shard = match and (int(match[1]), int(match[2]))
        if not match or args.shard[0] > args.shard[1]:
            parser.error("--shard must be K/N, from 1/N to N/N, as 3/8")
    if args.threshold is not None and not 0 <= args.threshold <= 1:
        parser.error("--threshold must be from 0 to 1")
    if (args.background or args.edge_colors) and "cutout" not in args.save:
        parser.error("--background and --edge-colors are for cut-outs: add --save cutout")
    suffix = Path(args.output).suffix.lower()[1:].replace("jpeg", "jpg")
    args.names_file = suffix in (*PICTURE_FORMATS, *VIDEO_FORMATS) and not is_folder(args.output)
    if args.names_file and len(args.save) > 1:
        parser.error(f"--output {args.output} is one file: --save one kind, or name a folder")
    if args.names_file and args.format not in ([], [suffix]):
        parser.error(f"--format {args.format[0]}: --output {args.output} says another")
    if args.names_file:
        args.format = [suffix]
    pictures = [one for one in args.format if one in PICTURE_FORMATS]
    videos = [one for one in args.format if one in VIDEO_FORMATS]
    if len(pictures) > 1 or len(videos) > 1:
        parser.error("--format takes one format of pictures, and one of videos")
    args.picture_format, args.video_format = "".join(pictures), "".join(videos)
    if args.picture_format == "jpg" and "cutout" in args.save and not args.background:
        parser.error("--format jpg has no transparency: give cut-outs a --background")
    if args.output == "-" and len(args.save) > 1:
        parser.error("--output - takes one picture: --save one kind")
    return args


def say(line: str) -> None:
    print(line, file=sys.stderr)
