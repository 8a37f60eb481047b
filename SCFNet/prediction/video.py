"""Videos: the mask, the cut-out or the overlay of every frame, as a video of the same rate."""

import os
from pathlib import Path
from typing import Iterable, Iterator, List, Optional, Tuple

import cv2
import numpy as np
from tqdm import tqdm

from datasets.files import InputError, check_is_file
from SCFNet.prediction.jobs import Job
from SCFNet.prediction.parallel import in_parallel
from SCFNet.prediction.rendering import RenderOptions, render, to_bytes
from SCFNet.predictor import Predictor

# MP4 has no transparency: cut-outs lie on this, which video editors can key out, unless a
# background is given.
GREEN = np.array([0, 255, 0], "uint8").reshape(1, 1, 3)
USUAL_RATE = 25.0  # for files that do not say theirs

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # our one line says what is wrong

Frame = Tuple[np.ndarray, Optional[np.ndarray]]  # RGB uint8 [H, W, 3]; its map, uint8 [H, W]


def predict_video(predictor: Predictor, job: Job, style: RenderOptions, every: int = 1) -> None:
    """Write a video per kind of `style`, of the source's size and rate, without sound.

    The network runs on each `every`-th frame, whose map is held until the next. A file appears
    when it is complete. Raises InputError where the source is no video, or breaks off (what comes
    before that is written), and where a target cannot be written.
    """
    if style.crop:
        raise InputError(f"{job.source}: --crop is for photos, a video keeps its size")
    if style.background is None:
        style = style._replace(background=GREEN)

    def see(numbered: Tuple[int, np.ndarray]) -> Frame:
        number, frame = numbered
        image = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        if number % every:
            return image, None
        return image, to_bytes(predictor(image, style.align_corners), style.threshold)

    def draw(frame: Frame) -> List[np.ndarray]:
        pictures = [render(kind, *frame, style.background) for kind in style.kinds]
        grey = cv2.COLOR_GRAY2BGR
        return [cv2.cvtColor(p, grey if p.ndim == 2 else cv2.COLOR_RGB2BGR) for p in pictures]

    check_is_file(job.source)
    capture = cv2.VideoCapture(str(job.source))
    if not capture.isOpened():
        raise InputError(f"{job.source}: cannot be read as a video")
    promised = int(max(0, capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    rate = capture.get(cv2.CAP_PROP_FPS)
    frames = in_parallel(draw, _hold(in_parallel(see, enumerate(_read(capture)))))
    bar = tqdm(frames, total=promised or None, unit="frame", desc=job.source.name)
    seen = _write(job.targets, bar, rate if 0 < rate < 1000 else USUAL_RATE)
    if not seen or seen < 0.9 * promised:  # some containers only estimate their number of frames
        raise InputError(f"{job.source}: breaks off after {seen} of {promised} frames")


def _read(capture: cv2.VideoCapture) -> Iterator[np.ndarray]:
    """The frames, BGR uint8 [H, W, 3]; closes `capture`."""
    try:
        while True:
            good, frame = capture.read()
            if not good:
                return
            yield frame
    finally:
        capture.release()


def _hold(frames: Iterable[Frame]) -> Iterator[Frame]:
    """The frames; one without a map has the map before it."""
    held = None
    for image, alpha in frames:
        held = held if alpha is None else alpha
        yield image, held


def _write(targets: Iterable[Path], frames: Iterable[List[np.ndarray]], rate: float) -> int:
    """Write each frame's pictures (BGR) to a video per target; the number of frames."""
    writers: List[cv2.VideoWriter] = []
    temporaries = {t: t.with_name(f".{t.stem[:40]}.{os.getpid()}.tmp.mp4") for t in targets}
    seen = 0
    try:
        for pictures in frames:
            seen += 1
            for target in list(temporaries)[len(writers) :]:
                writers.append(_open(target, temporaries[target], rate, pictures[0].shape))
            for writer, picture in zip(writers, pictures):
                writer.write(picture)
        for writer, (target, temporary) in zip(writers, temporaries.items()):
            writer.release()
            temporary.replace(target)
    finally:
        for writer in writers:
            writer.release()
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)
    return seen


def _open(target: Path, temporary: Path, rate: float, shape: Tuple[int, ...]) -> cv2.VideoWriter:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{target}: cannot be written: {error.strerror}") from error
    height, width = shape[:2]
    code = cv2.VideoWriter_fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(temporary), code, rate, (width, height))
    if not writer.isOpened():
        raise InputError(f"{target}: a video of {width} x {height} cannot be written")
    return writer
