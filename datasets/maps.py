"""Saliency maps as their folder has them: the scale of their numbers, and reading them by it."""

import math
from contextlib import suppress
from pathlib import Path
from typing import Collection, Dict, Sequence, Tuple

import cv2
import numpy as np

from datasets.masks import read_plain_png
from SCFNet.errors import InputError
from SCFNet.files import PathLike
from SCFNet.photos.depth import check_numbers, is_deep
from SCFNet.photos.opening import header_of, open_image, read_bytes
from SCFNet.photos.orientation import orientation_of, upright

WHITES = (1.0, 255.0, 1023.0, 4095.0, 65535.0)  # of floats, and of 8, 10, 12 and 16 bits
SLACK = 0.01  # by which a resized map may pass its white
LARGEST = {8: 255.0, 16: 65535.0, 32: math.inf}  # number that a file of so many bits can hold
CLIP = 3.0  # of the logits of joined maps, lest one that is sure outvotes the others
NOISE = 16  # levels by which the channels of a grey picture may differ, as WebP stores it


def find_whites(paths: Collection[Path]) -> Dict[Path, float]:
    """Return, for each of all maps of a folder, the number that stands for 1; see `white_of`.

    It is that of the brightest number in all the files of its depth, 8, 16 or 32 bits; 0 if they
    are all black. Files are read until no other can change it. What cannot be read counts for
    nothing: `read_map` raises for it.
    """
    depths = {path: _depth(path) for path in paths}
    brightest: Dict[int, float] = {}
    for path, depth in depths.items():
        so_far = brightest.get(depth, 0.0)
        if white_of(so_far) < LARGEST[depth]:
            with suppress(InputError):
                brightest[depth] = max(so_far, float(_read_numbers(path).max()))
    return {path: white_of(brightest.get(depth, 255.0)) for path, depth in depths.items()}


def white_of(brightest: float) -> float:
    """Return the smallest of WHITES that `brightest` does not pass, else `brightest`; 0 of 0."""
    if brightest <= 0:
        return 0.0
    return next((white for white in WHITES if brightest <= white + SLACK), brightest)


def read_map(path: PathLike, white: float = 255.0) -> np.ndarray:
    """Return a saliency map [H, W], upright: uint8 or uint16 on the scale of its type, else float64
    in which `white` has become 1.

    Alpha is the map if it varies. Raises InputError as `read_photo` does, and for a picture in
    colours.
    """
    numbers = _read_numbers(path)
    if numbers.dtype.kind in "iu" and white in (255.0, 65535.0):
        return numbers.clip(0, white).astype("uint8" if white == 255.0 else "uint16")
    return numbers / np.float64(white or 1)


def join_maps(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Return several networks' maps of a photo as one, float32 [H, W] in 0..255: the sigmoid of the
    sum of their logits, each clipped to [-CLIP, CLIP].

    `maps` are in 0..255, [h, w], and are resized to the largest of them.
    """
    height, width = max((one.shape for one in maps), key=math.prod)
    least = 1 / (1 + math.exp(CLIP))
    total = np.zeros((height, width), "float32")
    for one in maps:
        pred = cv2.resize(one.astype("float32") / 255, (width, height)).clip(least, 1 - least)
        total += np.log(pred / (1 - pred))
    return 255 / (1 + np.exp(-total))


def check_not_turned(path: PathLike, shape: Tuple[int, ...], wanted: Tuple[int, ...]) -> None:
    """Raise InputError for a map of `shape` [h, w] that lies on its side: a picture of `wanted`
    [H, W] may have a square map, or one of another size and about its shape.
    """
    aspect, its_aspect = (math.log(width / height) for height, width in (shape, wanted))
    swapped = shape == wanted[::-1] and shape != wanted
    if swapped or (aspect * its_aspect < 0 and min(abs(aspect), abs(its_aspect)) > 0.05):
        raise InputError(
            f"{path}: is {shape[1]}x{shape[0]} for a picture of {wanted[1]}x{wanted[0]}: turn it"
        )


def _depth(path: PathLike) -> int:
    """Return how many bits a number of a map has, by the header of its file; 8 if it has none."""
    with suppress(Exception), header_of(path) as image:  # the fault is for the reader to tell
        if image.mode in ("I", "F"):
            return 32
        in_colours = image.format == "PNG" and ";16" in str(getattr(image, "tile", ""))
        return 16 if ";16" in image.mode or in_colours else 8
    return 8


def _read_numbers(path: PathLike) -> np.ndarray:
    """Return the map as it is stored, [H, W], upright."""
    data = read_bytes(path)
    grey = read_plain_png(path, data)
    if grey is not None:
        return grey
    with open_image(path, data) as image:
        if is_deep(image):
            numbers = np.asarray(image)
            check_numbers(numbers)
        elif image.mode in ("1", "L"):
            numbers = np.asarray(image.convert("L"))
        elif image.format == "PNG" and data[24] == 16:  # bits, of which Pillow keeps the high 8
            pixels = np.frombuffer(data, "uint8")
            colours = np.asarray(cv2.imdecode(pixels, cv2.IMREAD_UNCHANGED))
            numbers = _one_channel(path, colours[..., [2, 1, 0, 3][: colours.shape[2]]])
        else:
            mode = "RGBA" if image.has_transparency_data else "RGB"
            numbers = _one_channel(path, np.asarray(image.convert(mode)))
        return upright(numbers.astype(numbers.dtype.newbyteorder("=")), orientation_of(image))


def _one_channel(path: PathLike, colours: np.ndarray) -> np.ndarray:
    """Return the map [H, W] in RGB or RGBA [H, W, 3 or 4]: alpha if it varies, else grey."""
    rgb, alpha = colours[..., :3], colours[..., 3:]
    if alpha.size and (np.ptp(alpha) or not alpha.any()):
        return alpha[..., 0]
    noise = NOISE if colours.dtype == np.uint8 else rgb.max() // NOISE
    if (rgb.max(axis=2) - rgb.min(axis=2)).max() > noise:
        raise InputError(
            f"{path}: is a colour picture, not a map; save it as grey (in matplotlib, cmap='gray')"
        )
    return cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY)
