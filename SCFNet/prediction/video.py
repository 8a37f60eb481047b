"""Videos: the mask, the cut-out or the overlay of every frame, as a video of the same times."""

import sys
from contextlib import ExitStack
from itertools import accumulate
from typing import Dict, Iterable, List, Optional, Tuple

import numpy as np

from SCFNet.errors import InputError
from SCFNet.files import exists, replacing
from SCFNet.parallel import in_parallel, workers
from SCFNet.photos.reading import opaque
from SCFNet.prediction.jobs import Job
from SCFNet.prediction.marks import is_partial, mark_as_partial
from SCFNet.prediction.progress import progress
from SCFNet.prediction.rendering import RenderOptions, cover, draw, make_alphas
from SCFNet.prediction.video_reading import Frame, VideoReader
from SCFNet.prediction.video_writing import VideoWriter, ffmpeg_errors_as_os_errors
from SCFNet.predictor import Predictor

# MP4 has no transparency: cut-outs lie on this, which video editors can key out.
GREEN = np.array([0, 255, 0], "uint8").reshape(1, 1, 3)
BYTES_AHEAD = 200_000_000  # of frames and pictures that wait between the steps

Alphas = Dict[str, np.ndarray]  # of `make_alphas`
Predicted = Tuple[Frame, Alphas]  # {} of a frame for which the network did not run
Drawn = Tuple[int, List[np.ndarray]]  # the time of a frame and its pictures


def predict_video(predictor: Predictor, job: Job, options: RenderOptions, every: int = 1) -> None:
    """Write a video for each kind of `options`, with the size, times and sound of the source.

    The network runs on each `every`-th frame, whose map is repeated until the next. A file appears
    when it is complete. Raises InputError if the source is no video, is damaged or breaks off (what
    can be read is written, marked as partial, but over no file that is not), and if a target cannot
    be written. Subtitles are left out, as is said on stderr.
    """
    if options.crop:
        raise InputError(f"{job.source}: crop is for photos, a video keeps its size")
    with ExitStack() as stack:
        reader = VideoReader(job.source, stack)
        if reader.subtitles:
            languages = ", ".join(reader.subtitles)
            print(f"{job.source}: its subtitles ({languages}) are left out", file=sys.stderr)
        options = options._replace(background=_background(job, options, reader.shape))

        def predict_frame(numbered: Tuple[int, Frame]) -> Predicted:
            number, frame = numbered
            if number % every:
                return frame, {}
            (saliency,) = predictor.maps([opaque(frame.photo)])
            return frame, make_alphas(saliency, reader.shape, predictor.sharpened, options)

        def draw_frame(predicted: Predicted) -> Drawn:
            frame, alphas = predicted
            return frame.time, list(draw(frame.photo, alphas, options))

        ahead = BYTES_AHEAD // (3 * reader.shape[0] * reader.shape[1] * (1 + len(options.kinds)))
        ahead = max(1, min(2 * workers(), ahead))
        frames = in_parallel(predict_frame, enumerate(reader), ahead)
        drawn = in_parallel(draw_frame, accumulate(frames, repeat_alphas), ahead)
        shown = progress(drawn, reader.count, "frame", job.source.name)
        fault = _write(job, reader, shown, options)
    if fault:
        raise InputError(f"{job.source}: {fault}")


def repeat_alphas(before: Predicted, after: Predicted) -> Predicted:
    """Give a frame without alphas those of the frame before it."""
    return after[0], after[1] or before[1]


def _background(job: Job, options: RenderOptions, shape: Tuple[int, int]) -> Optional[np.ndarray]:
    """Return what lies under cut-outs, RGB uint8 [H, W, 3]; None if they are to be transparent."""
    if options.background is not None:
        return cover(options.background, shape)
    on_green = ("cutout", ".mp4") in zip(options.kinds, (target.suffix for target in job.targets))
    return cover(GREEN, shape) if on_green else None


def _write(job: Job, reader: VideoReader, frames: Iterable[Drawn], options: RenderOptions) -> str:
    """Write a video per target of the frames' pictures; return what the source has lost, or ''."""
    with ExitStack() as stack:
        streams, writers = [], []
        for kind, target in zip(options.kinds, job.targets):
            stream = stack.enter_context(replacing(target))
            streams.append(stream)
            transparent = kind == "cutout" and options.background is None
            writers.append(VideoWriter(stream, target.suffix, reader, job.mark, transparent, stack))
        with ffmpeg_errors_as_os_errors():
            for time, pictures in frames:
                for writer, picture in zip(writers, pictures):
                    writer.write(time, picture)
            for writer in writers:
                writer.finish()
        fault = reader.fault()
        if fault:
            for target, stream in zip(job.targets, streams):
                if exists(target) and not is_partial(target):
                    raise InputError(f"{job.source}: {fault}; {target} stays as it was")
                mark_as_partial(stream)
        lost = ", ".join(writers[0].lost_sound)
        return fault or (lost and f"its sound ({lost}) is lost: unknown coding")
