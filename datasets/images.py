"""Reading photos and masks from any image file, and writing PNGs."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from datasets.files import InputError, PathLike, write_atomically

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")

# RGB statistics of the release, on the 0..255 scale: a photo is fed as (image - MEAN) / STD.
MEAN = np.array([124.55, 118.90, 102.94], "float32")
STD = np.array([56.77, 55.97, 57.50], "float32")


def read_image(path: PathLike) -> np.ndarray:
    """The photo as RGB uint8 [H, W, 3], upright by its EXIF orientation. Raises InputError."""
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read as an image: {error}") from error


def read_mask(path: PathLike) -> np.ndarray:
    """The mask as float32 [H, W] in [0, 1]; 0/255, 0/1 and soft codings all read right."""
    try:
        with Image.open(path) as image:
            mask = np.asarray(image.convert("L"), "float32")
    except OSError as error:
        raise InputError(f"{path}: cannot be read as a mask: {error}") from error
    return mask / 255 if mask.max() > 1 else mask


def write_png(path: PathLike, image: np.ndarray) -> None:
    """Write uint8 [H, W] grey, [H, W, 3] RGB or [H, W, 4] RGBA as a PNG, atomically."""
    if image.ndim == 3:
        code = cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR
        image = cv2.cvtColor(image, code)
    write_atomically(Path(path), cv2.imencode(".png", image)[1].tobytes())
