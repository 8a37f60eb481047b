"""Many photos: decoding, the network and writing overlap, and memory stays flat."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Deque, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from tqdm import tqdm

from datasets.files import InputError
from datasets.images import read_image, write_image
from SCFNet.inputs import Job
from SCFNet.predictor import Predictor
from SCFNet.rendering import object_box, render, to_bytes

WORKERS = 3  # each takes a batch through reading, network and writing


class Style(NamedTuple):
    """What is made of a map. `kinds` are keys of `rendering.ENDINGS`."""

    kinds: Sequence[str] = ("mask",)
    align_corners: bool = False
    threshold: Optional[float] = None
    crop: bool = False
    background: Optional[np.ndarray] = None


def predict_jobs(
    predictor: Predictor, jobs: Sequence[Job], style: Style, batch_size: int = 1
) -> List[str]:
    """Write the pictures of all `jobs`; the errors, one line each, of those that failed.

    A progress bar is shown for more than one job. Ctrl-C ends it after the batches in progress,
    and leaves no half-written file.
    """
    errors: List[str] = []
    pending: Deque[Future[List[str]]] = deque()
    batches = [jobs[i : i + batch_size] for i in range(0, len(jobs), batch_size)]
    with ThreadPoolExecutor(WORKERS) as pool, tqdm(
        total=len(jobs), unit="photo", disable=len(jobs) < 2
    ) as bar:
        for batch in batches:
            pending.append(pool.submit(_predict_batch, predictor, batch, style))
            if len(pending) > 2 * WORKERS:
                errors += pending.popleft().result()
                bar.update(batch_size)
        for future in pending:
            errors += future.result()
            bar.update(min(batch_size, bar.total - bar.n))
    return errors


def _predict_batch(predictor: Predictor, batch: Sequence[Job], style: Style) -> List[str]:
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


def _write(job: Job, image: np.ndarray, alpha: np.ndarray, style: Style) -> None:
    """Write the pictures of one photo. `alpha` is its map, uint8 [H, W]."""
    if style.crop:
        box = object_box(alpha)
        image, alpha = image[box], alpha[box]
    for kind, target in zip(style.kinds, job.targets):
        write_image(target, render(kind, image, alpha, style.background))
