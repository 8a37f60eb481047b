"""Prediction: photo in, saliency map out."""

import sys
from functools import lru_cache
from pathlib import Path
from typing import List, Optional, Sequence, Tuple, Union

import cv2
import numpy as np

from datasets.files import InputError, PathLike
from datasets.images import read_image
from datasets.transform import check_size, network_input
from SCFNet.backends import open_engine

# The checkpoint that is used where none is named.
DEFAULT_WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / "SCFNet-DUTS.pdparams"


class Predictor:
    """A trained network, ready for photos.

    `weights`   a checkpoint (`.pdparams`, or a published `.pth`), or an `.onnx` file that
                tools/export.py made; None is the default checkpoint (said on stderr)
    `backbone`  what the weights must be of, a name of `zoo.NETWORKS`; None is any
    `device`    'auto', 'cpu', 'gpu' or 'gpu:N'
    `size`      height and width that photos are resized to; None is the network's own
    `engine`    'paddle', 'onnx' (ONNX Runtime on the CPU; Paddle is not imported) or 'auto':
                Paddle on a GPU; 'onnx' on a CPU where there is an exported file of these weights
    Raises InputError for files that do not fit.
    """

    def __init__(
        self,
        weights: Optional[PathLike] = None,
        backbone: Optional[str] = None,
        device: str = "auto",
        size: Optional[int] = None,
        engine: str = "auto",
    ) -> None:
        if size is not None:
            check_size("size", size)
        opened = open_engine(Path(weights or DEFAULT_WEIGHTS), device, size, engine)
        if backbone not in (None, opened.model_type):
            raise InputError(f"{opened.weights}: is of {opened.model_type}, not of {backbone}")
        if weights is None:
            print(f"weights: {opened.weights}", file=sys.stderr)
        self.weights, self.size, self.engine = opened.weights, opened.size, opened.name
        self.normalisation, self._run = opened.normalisation, opened.run

    def __call__(
        self, images: Union[np.ndarray, Sequence[np.ndarray]], align_corners: bool = False
    ) -> Union[np.ndarray, List[np.ndarray]]:
        """The map float32 [H, W] in [0, 1] of an RGB uint8 image [H, W, 3].

        A list of images, of any sizes, is one batch and gives the list of their maps. With
        `align_corners` maps are resized as the release's test script does it, else as its
        notebook does. Raises ValueError for an array that is not RGB uint8.
        """
        if isinstance(images, np.ndarray):
            return self([images], align_corners)[0]
        maps = self._run(network_input(images, self.size, self.normalisation))
        return [resize_map(m, i.shape[:2], align_corners) for m, i in zip(maps, images)]

    def predict(self, path: PathLike) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The AI Studio notebook's triple for a photo: the image, RGB uint8 [H, W, 3]; its map
        times 255, float32 [H, W, 1]; and image * map, float32 [H, W, 3] in [0, 255].

        Raises InputError where the photo cannot be read.
        """
        image = read_image(path)
        saliency = self(image)[..., None]
        return image, saliency * 255, image * saliency


@lru_cache(maxsize=1)
def _default_predictor() -> Predictor:
    return Predictor()


def predict(path: PathLike) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`Predictor.predict` with the default checkpoint, which is read once."""
    return _default_predictor().predict(path)


def resize_map(
    saliency: np.ndarray, shape: Tuple[int, int], align_corners: bool = False
) -> np.ndarray:
    """A map float32 [h, w], bilinearly at `shape` (H, W)."""
    if align_corners:
        down, across = (_corner_weights(n, m) for n, m in zip(saliency.shape, shape))
        return down @ saliency @ across.T
    return cv2.resize(saliency, shape[::-1], interpolation=cv2.INTER_LINEAR)


def _corner_weights(before: int, after: int) -> np.ndarray:
    """Float32 [after, before]: the linear interpolation that keeps both end points in place."""
    where = np.linspace(0, before - 1, after)[:, None]
    return np.maximum(0, 1 - np.abs(where - np.arange(before))).astype("float32")
