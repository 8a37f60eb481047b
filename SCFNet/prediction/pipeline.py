"""Many inputs: decoding, the network and writing overlap, and memory stays flat."""

from typing import Iterator, List, Sequence, Tuple

import numpy as np

from SCFNet.errors import InputError
from SCFNet.files import remove_leftovers, write_atomically
from SCFNet.parallel import in_parallel
from SCFNet.photos.decoding import large_photo
from SCFNet.photos.images import Photo, opaque, read_photo
from SCFNet.prediction.encoding import dpi_of, encode_result
from SCFNet.prediction.inputs import is_video
from SCFNet.prediction.jobs import Job
from SCFNet.prediction.marks import mark_of
from SCFNet.prediction.progress import progress
from SCFNet.prediction.rendering import RenderOptions, make_alphas, object_box, render
from SCFNet.prediction.video import predict_video
from SCFNet.predictor import Predictor


def predict_jobs(
    predictor: Predictor,
    jobs: Sequence[Job],
    options: RenderOptions,
    batch_size: int = 1,
    every: int = 1,
) -> List[str]:
    """Write the pictures of all `jobs`; the errors, one line each, of those that failed.

    How much is done is shown on stderr. Ctrl-C ends it after what is in progress, and leaves no
    half-written file. What killed runs left in the output is removed.

    Args:
        predictor: runs beside itself, in several threads.
        jobs: of `plan_jobs`, for the kinds of `options`.
        options: what is made of each map.
        batch_size: photos per run of the network.
        every: videos: a new map each so many frames.
    """
    for folder in {target.parent for job in jobs for target in job.targets}:
        remove_leftovers(folder)
    errors = [job.fault for job in jobs if job.fault]
    photos = [job for job in jobs if not job.fault and not is_video(job.source)]
    batches = [photos[i : i + batch_size] for i in range(0, len(photos), batch_size)]

    def predict(batch: Sequence[Job]) -> List[str]:
        return _predict_batch(predictor, batch, options)

    done = zip(batches, in_parallel(predict, batches))
    for _, failed in progress(done, len(photos), "photo", size=lambda pair: len(pair[0])):
        errors += failed
    for job in jobs:
        if not job.fault and is_video(job.source):
            try:
                predict_video(predictor, job, options, every)
            except InputError as error:
                errors.append(str(error))
    return errors


def _predict_batch(predictor: Predictor, batch: Sequence[Job], options: RenderOptions) -> List[str]:
    """Read, predict and write one batch; its errors. A photo that fails does not cost the rest."""
    errors = []
    read: List[Tuple[Job, Photo]] = []
    for job in batch:
        with large_photo(job.source) as is_large:
            try:
                photo = read_photo(job.source)
            except InputError as error:
                errors.append(str(error))
                continue
            if is_large:  # it is done before another one is read
                errors += _finish(predictor, [(job, photo)], options)
            else:
                read.append((job, photo))
    return errors + _finish(predictor, read, options)


def _finish(
    predictor: Predictor, read: Sequence[Tuple[Job, Photo]], options: RenderOptions
) -> List[str]:
    """Predict and write photos that were read; the errors."""
    if not read:
        return []
    errors = []
    images = [opaque(photo) for _, photo in read]
    for (job, photo), image, saliency in zip(read, images, predictor.maps(images)):
        pictures = draw(photo, image, saliency, options, predictor.sharpened)
        mark, dpi = mark_of(job.source), dpi_of(job.source)
        try:
            for target, picture in zip(job.targets, pictures):
                write_atomically(target, encode_result(target, picture, mark, dpi), flush=False)
        except InputError as error:
            errors.append(str(error))
    return errors


def draw(
    photo: Photo,
    shown: np.ndarray,
    saliency: np.ndarray,
    options: RenderOptions,
    sharpened: float = 1,
) -> Iterator[np.ndarray]:
    """Draw the picture of each of `options.kinds`, as `render` returns it.

    Args:
        photo: cut-outs are of its image; what is transparent in it stays so.
        shown: overlays are of this, which is the photo over white.
        saliency: its map, float32 [h, w] in [0, 1], at the network's size.
        options: what is drawn, and how.
        sharpened: see `clean_alpha`.
    """
    alphas = make_alphas(saliency, shown.shape[:2], sharpened, options)
    if photo.alpha is not None:
        alphas = {kind: np.minimum(alpha, photo.alpha) for kind, alpha in alphas.items()}
    box = object_box(alphas["crop"]) if options.crop else (slice(None), slice(None))
    for kind in options.kinds:
        base = photo.image if kind == "cutout" else shown
        yield render(kind, base[box], alphas[kind][box], options)
