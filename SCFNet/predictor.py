"""Prediction: photo in, saliency map out."""

import sys
from functools import lru_cache
from typing import List, Optional, Sequence, Tuple, Union, overload

import numpy as np

from SCFNet.backends import open_backend
from SCFNet.checkpoint import DEFAULT_WEIGHTS, find_weights
from SCFNet.errors import InputError
from SCFNet.files import PathLike
from SCFNet.maps import resize_map
from SCFNet.photos.images import read_image
from SCFNet.photos.transform import check_size, network_input


class Predictor:
    """A trained network, ready for photos.

    Args:
        weights: 'small' or 'accurate', the shipped checkpoints; a checkpoint
            (`.pdparams`, or a published `.pth`); or an `.onnx` file that tools/export.py made.
            None is the default checkpoint (said on stderr).
        backbone: what the weights must be of, a name of `zoo.NETWORKS`; None is any.
        device: 'auto', 'cpu', 'gpu' or 'gpu:N'.
        size: height and width that photos are resized to, a multiple of 32; None is the network's.
        engine: 'paddle', 'onnx' (ONNX Runtime on the CPU; Paddle is not imported) or 'auto':
            Paddle on a GPU; 'onnx' on a CPU if there is an exported file of these weights.
        threads: of ONNX Runtime for a call; 0 are as many as there are cores, which is right if
            no calls run beside each other.
    Raises InputError for files that do not fit, ArgumentError for a `size` that cannot be.
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
        file = DEFAULT_WEIGHTS if weights is None else find_weights(weights)
        opened = open_backend(file, device, size, engine, threads)
        if backbone not in (None, opened.model_type):
            raise InputError(f"{opened.weights}: is of {opened.model_type}, not of {backbone}")
        if weights is None:
            print(f"weights: {opened.weights}", file=sys.stderr)
        self.weights, self.size, self.engine = opened.weights, opened.size, opened.name
        self.normalisation, self._run = opened.normalisation, opened.run
        self.sharpened = opened.sharpened

    @overload
    def __call__(self, images: np.ndarray, align_corners: bool = False) -> np.ndarray: ...

    @overload
    def __call__(
        self, images: Sequence[np.ndarray], align_corners: bool = False
    ) -> List[np.ndarray]: ...

    def __call__(
        self, images: Union[np.ndarray, Sequence[np.ndarray]], align_corners: bool = False
    ) -> Union[np.ndarray, List[np.ndarray]]:
        """Predict the map float32 [H, W] in [0, 1] of an RGB uint8 image [H, W, 3].

        A list of images, of any sizes, is one batch and gives the list of their maps. With
        `align_corners` maps are resized as the release's test script does it, else as its
        notebook does. Raises ValueError for an array that is not RGB uint8.
        """
        if isinstance(images, np.ndarray):
            return self([images], align_corners)[0]
        maps = self.maps(images)
        return [resize_map(m, i.shape[:2], align_corners) for m, i in zip(maps, images)]

    def maps(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Predict the network's own maps, float32 [N, size, size] in [0, 1], of images."""
        return self._run(network_input(images, self.size, self.normalisation))

    def predict(self, path: PathLike) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Predict the AI Studio notebook's triple for a photo: the image, RGB uint8 [H, W, 3]; its
        map times 255, float32 [H, W, 1]; and image * map, float32 [H, W, 3] in [0, 255].

        Raises InputError if the photo cannot be read.
        """
        image = read_image(path)
        saliency = self(image)[..., None]
        return image, saliency * 255, image * saliency


@lru_cache(maxsize=1)
def _default_predictor() -> Predictor:
    return Predictor(threads=0)


def predict(path: PathLike) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Do `Predictor.predict` with the default checkpoint, which is read once."""
    return _default_predictor().predict(path)
