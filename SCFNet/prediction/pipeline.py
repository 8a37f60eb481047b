"""Many inputs: decoding, the network and writing overlap, and memory stays flat."""

from typing import List, Sequence, Tuple

import numpy as np
from tqdm import tqdm

from datasets.files import InputError
from datasets.images import read_image, write_image
from SCFNet.prediction.jobs import Job, is_video
from SCFNet.prediction.parallel import in_parallel
from SCFNet.prediction.rendering import RenderOptions, object_box, render, to_bytes
from SCFNet.prediction.video import predict_video
from SCFNet.predictor import Predictor


def predict_jobs(
    predictor: Predictor,
    jobs: Sequence[Job],
    style: RenderOptions,
    batch_size: int = 1,
    every: int = 1,
) -> List[str]:
    """Write the pictures of all `jobs`; the errors, one line each, of those that failed.

    `every` is that of `video.predict_video`. Progress bars are shown for more than one photo and
    for videos. Ctrl-C ends it after what is in progress, and leaves no half-written file.
    """
    photos = [job for job in jobs if not is_video(job.source)]
    batches = [photos[i : i + batch_size] for i in range(0, len(photos), batch_size)]
    errors: List[str] = []

    def predict(batch: Sequence[Job]) -> Tuple[int, List[str]]:
        return len(batch), _predict_batch(predictor, batch, style)

    with tqdm(total=len(photos), unit="photo", disable=len(photos) < 2) as bar:
        for done, failed in in_parallel(predict, batches):
            bar.update(done)
            errors += failed
    for job in jobs:
        if is_video(job.source):
            try:
                predict_video(predictor, job, style, every)
            except InputError as error:
                errors.append(str(error))
    return errors


def _predict_batch(predictor: Predictor, batch: Sequence[Job], style: RenderOptions) -> List[str]:
    """Read, predict and write one batch; its errors. A photo that fails does not cost the rest."""
    errors = []
    read: List[Tuple[Job, np.ndarray]] = []
    for job in batch:
        try:
            read.append((job, read_image(job.source)))
        except InputError as error:
            errors.append(str(error))
    if not read:
        return errors
    maps = predictor([image for _, image in read], style.align_corners)
    for job, image in read:
        try:
            _write(job, image, to_bytes(maps.pop(0), style.threshold), style)
        except InputError as error:
            errors.append(str(error))
    return errors


def _write(job: Job, image: np.ndarray, alpha: np.ndarray, style: RenderOptions) -> None:
    """Write the pictures of one photo. `alpha` is its map, uint8 [H, W]."""
    if style.crop:
        box = object_box(alpha)
        image, alpha = image[box], alpha[box]
    for kind, target in zip(style.kinds, job.targets):
        write_image(target, render(kind, image, alpha, style.background))
