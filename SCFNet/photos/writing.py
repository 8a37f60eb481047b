"""Writing pictures as PNG and JPEG files."""

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from SCFNet.errors import InputError
from SCFNet.files import PathLike, write_atomically

# A sixth faster than OpenCV's defaults for soft maps, and a little smaller.
PNG_OPTIONS = [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]


def write_image(path: PathLike, image: np.ndarray) -> None:
    """Write uint8 [H, W] grey, [H, W, 3] RGB or [H, W, 4] RGBA in the format of the suffix of
    `path`, '.png' or '.jpg', atomically. Raises InputError if that fails.
    """
    write_atomically(path, encode_image(path, image), flush=False)


def encode_image(path: PathLike, image: np.ndarray) -> bytes:
    """Return the bytes that `write_image` writes to `path`; raises InputError as it does."""
    suffix = Path(path).suffix
    height, width = image.shape[:2]
    if suffix == ".jpg" and max(height, width) > 65500:
        raise InputError(f"{path}: {width} x {height} pixels are too many for a JPEG file")
    if suffix == ".png" and max(height, width) > 1_000_000:  # libpng's limit, but not PNG's
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "PNG")
        return stream.getvalue()
    if image.ndim == 3:
        code = cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR
        image = cv2.cvtColor(image, code)
    done, encoded = cv2.imencode(suffix, image, PNG_OPTIONS if suffix == ".png" else [])
    if not done:
        raise InputError(f"{path}: {width} x {height} pixels cannot be written as {suffix}")
    return encoded.tobytes()


def write_png(path: PathLike, image: np.ndarray) -> None:
    """Write a picture as `write_image` does, to a path that ends in '.png'."""
    write_image(path, image)
