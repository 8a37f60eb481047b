"""Prediction: photo in, saliency map or cut-out out."""

import hashlib
import os
import sys
from functools import lru_cache
from typing import Any, Iterator, List, Optional, Sequence, Tuple, Union, overload

import numpy as np
from PIL import Image

from SCFNet.backends import open_backend
from SCFNet.checkpoint import DEFAULT_WEIGHTS, find_weights
from SCFNet.errors import ArgumentError, InputError
from SCFNet.files import PathLike
from SCFNet.maps import resize_map
from SCFNet.photos.reading import Photo, opaque, read_image, read_photo
from SCFNet.photos.transform import check_size, network_input
from SCFNet.prediction.rendering import RenderOptions, draw, make_alphas

AnImage = Union[np.ndarray, PathLike, Image.Image]
AN_IMAGE = "an image is RGB uint8 [H, W, 3], a path or a PIL image"  # in errors


class Predictor:
    """A trained network, ready for photos. It pickles: another process opens the file again.

    An image is RGB uint8 [H, W, 3]; or a path, which is read as tools/predict.py reads it; or a
    PIL image, which is converted to RGB as it lies in memory, and not turned by its EXIF data.

    Args:
        weights: 'small' or 'accurate', the shipped checkpoints; a checkpoint
            (`.pdparams`, or a published `.pth`); or an `.onnx` file that tools/export.py made.
            None is the default checkpoint (said on stderr).
        backbone: what the weights must be of, a name of `zoo.NETWORKS`; None is any.
        device: 'auto', 'cpu', 'gpu' or 'gpu:N'.
        size: height and width that photos are resized to, a multiple of 32; None is the network's.
        engine: 'paddle', 'onnx' (ONNX Runtime; Paddle is not imported) or 'auto': Paddle on a GPU,
            if it is installed; else 'onnx' if there is an exported file of these weights.
        threads: of ONNX Runtime for a call; 0 are as many as there are cores, which is right if
            no calls run beside each other.

    Raises InputError for files that do not fit, ArgumentError for an argument that cannot be; both
    are ValueErrors.
    """

    def __init__(
        self,
        weights: Optional[PathLike] = None,
        backbone: Optional[str] = None,
        device: str = "auto",
        size: Optional[int] = None,
        engine: str = "auto",
        threads: int = 1,
    ) -> None:
        if size is not None:
            check_size("size", size)
        if not isinstance(weights, (str, os.PathLike, type(None))) or weights == "":
            raise ArgumentError("weights", f"must be a name or a path, not {weights!r:.80}")
        if not isinstance(threads, (int, np.integer)) or threads < 0:
            raise ArgumentError("threads", f"must be a number of threads, or 0, not {threads!r}")
        file = DEFAULT_WEIGHTS if weights is None else find_weights(weights)
        opened = open_backend(file, device, size, engine, threads)
        if backbone not in (None, opened.model_type):
            raise InputError(f"{opened.weights}: is of {opened.model_type}, not of {backbone}")
        if weights is None:
            print(f"weights: {opened.weights}", file=sys.stderr)
        self.weights, self.size, self.engine = opened.weights, opened.size, opened.name
        self.normalisation, self._run = opened.normalisation, opened.run
        self.sharpened, self.weights_sha256 = opened.sharpened, opened.weights_sha256
        file = self.weights.absolute()
        self._arguments = (file, backbone, device, opened.size, self.engine, threads)

    def __reduce__(self) -> Tuple[Any, ...]:
        return type(self), self._arguments

    @overload  # a str is a sequence of str, but one image
    def __call__(  # type: ignore[overload-overlap]
        self, images: AnImage, align_corners: bool = False
    ) -> np.ndarray: ...

    @overload
    def __call__(
        self, images: Sequence[AnImage], align_corners: bool = False
    ) -> List[np.ndarray]: ...

    def __call__(
        self, images: Any, align_corners: bool = False
    ) -> Union[np.ndarray, List[np.ndarray]]:
        """Predict the map of an image, float32 [H, W] in [0, 1].

        A list of images, of any sizes, is one batch and gives the list of their maps. With
        `align_corners` maps are resized as the release's test script does it, else as its
        notebook does. Raises ValueError for what is no image, and for an empty list.
        """
        if not isinstance(images, (list, tuple)):
            return self([images], align_corners)[0]
        if not images:
            raise ValueError(f"an empty list: name one image or more; {AN_IMAGE}")
        photos = [opaque(_as_photo(image)) for image in images]
        maps = self.maps(photos)
        return [resize_map(m, p.shape[:2], align_corners) for m, p in zip(maps, photos)]

    def cutout(self, image: AnImage) -> np.ndarray:
        """Cut the object out of an image: RGBA uint8 [H, W, 4], as `--save cutout` writes it.

        What is transparent in a photo stays so. Raises ValueError for what is no image.
        """
        (picture,) = self.pictures(_as_photo(image), RenderOptions(kinds=["cutout"]))
        return picture

    def pictures(self, photo: Photo, options: RenderOptions) -> Iterator[np.ndarray]:
        """Predict a photo and draw the picture of each of `options.kinds`: see `draw`."""
        (saliency,) = self.maps([opaque(photo)])
        alphas = make_alphas(saliency, photo.image.shape[:2], self.sharpened, options)
        return draw(photo, alphas, options)

    def maps(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Predict the network's own maps, float32 [N, size, size] in [0, 1], of images."""
        return self._run(network_input(images, self.size, self.normalisation))

    def made_by(self, options: RenderOptions, every: int = 1) -> str:
        """Return a digest, 16 hexadecimal digits, of what a result depends on beside its input: the
        weights, whatever engine runs them, the size, `options`, and of videos `every`, the number
        of frames that share a map.
        """
        background = options.background
        under = None if background is None else hashlib.sha256(background.tobytes()).hexdigest()
        drawn = options._replace(kinds=(), background=under)  # type: ignore[arg-type]
        settings = (self.weights_sha256, self.size, *drawn, every)
        return hashlib.sha256(repr(settings).encode()).hexdigest()[:16]

    def predict(self, path: PathLike) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Predict the AI Studio notebook's triple for a photo: the image, RGB uint8 [H, W, 3]; its
        map times 255, float32 [H, W, 1]; and image * map, float32 [H, W, 3] in [0, 255].

        Raises InputError if the photo cannot be read.
        """
        image = read_image(path)
        saliency = self(image)[..., None]
        return image, saliency * 255, image * saliency


def _as_photo(image: Any) -> Photo:
    """Return `image`, of a kind that `Predictor` takes, as a photo; raise ValueError for others."""
    if isinstance(image, (str, os.PathLike)):
        return read_photo(image)
    if isinstance(image, Image.Image):
        if image.mode[:1] in "IF":
            raise ValueError(f"a PIL image of mode {image.mode}: convert it to RGB; {AN_IMAGE}")
        try:
            return Photo(np.asarray(image.convert("RGB")), None)
        except (OSError, SyntaxError, ValueError) as error:  # of a file that is read only here
            raise ValueError(f"a PIL image that cannot be converted: {error}") from error
    if not isinstance(image, np.ndarray):
        raise ValueError(f"{AN_IMAGE}, not {type(image).__name__}")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"{AN_IMAGE}, not {image.dtype} {image.shape}")
    return Photo(image, None)


@lru_cache(maxsize=1)
def _default_predictor() -> Predictor:
    return Predictor(threads=0)


def predict(path: PathLike) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what `Predictor.predict` of the default checkpoint, which is read once, returns."""
    return _default_predictor().predict(path)
