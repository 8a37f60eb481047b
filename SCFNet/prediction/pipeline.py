"""Many inputs: decoding, the network and writing overlap, and memory stays flat."""

from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, List, Sequence, Tuple

from SCFNet.errors import InputError, is_memory_short, memory_faults
from SCFNet.files import remove_leftovers, write_atomically
from SCFNet.parallel import in_parallel
from SCFNet.photos.opening import large_photo
from SCFNet.photos.reading import Photo, opaque, read_photo
from SCFNet.photos.writing import encode_image
from SCFNet.prediction.inputs import is_video
from SCFNet.prediction.jobs import Job
from SCFNet.prediction.progress import progress
from SCFNet.prediction.rendering import RenderOptions, draw, make_alphas
from SCFNet.prediction.video import predict_video
from SCFNet.predictor import Predictor


def predict_jobs(
    predictor: Predictor,
    jobs: Sequence[Job],
    options: RenderOptions,
    batch_size: int = 1,
    every: int = 1,
) -> List[str]:
    """Write the pictures of all `jobs`, and return an error, one line, for each that failed.

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
            with _collecting(errors, job.source):
                predict_video(predictor, job, options, every)
    return errors


def _predict_batch(predictor: Predictor, batch: Sequence[Job], options: RenderOptions) -> List[str]:
    """Read, predict and write one batch, and return its errors, which do not cost the rest."""
    errors: List[str] = []
    read: List[Tuple[Job, Photo]] = []
    for job in batch:
        with large_photo(job.source) as is_large, _collecting(errors, job.source):
            photo = read_photo(job.source)
            if is_large:  # it is done before another one is read
                errors += _finish(predictor, [(job, photo)], options)
            else:
                read.append((job, photo))
    return errors + _finish(predictor, read, options)


def _finish(
    predictor: Predictor, read: Sequence[Tuple[Job, Photo]], options: RenderOptions
) -> List[str]:
    """Predict and write photos that were read, and return the errors."""
    if not read:
        return []
    errors: List[str] = []
    try:
        maps = predictor.maps([opaque(photo) for _, photo in read])
    except Exception as error:
        if not is_memory_short(error):
            raise
        if len(read) == 1:
            return [f"{read[0][0].source}: not enough memory"]
        return [fault for one in read for fault in _finish(predictor, [one], options)]
    for (job, photo), saliency in zip(read, maps):
        with _collecting(errors, job.source):
            shape = photo.image.shape[:2]
            alphas = make_alphas(saliency, shape, predictor.sharpened, options)
            for target, picture in zip(job.targets, draw(photo, alphas, options)):
                encoded = encode_image(target, picture, job.mark, photo.dpi)
                write_atomically(target, encoded, flush=False)
    return errors


@contextmanager
def _collecting(errors: List[str], source: Path) -> Iterator[None]:
    """Append to `errors` the line of an input that fails, which does not cost the rest."""
    try:
        with memory_faults(source):
            yield
    except InputError as error:
        errors.append(str(error))
