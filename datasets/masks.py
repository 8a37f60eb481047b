"""Reading masks in whatever coding they come, and saliency maps as they are.

A mask says which pixels are the object. `read_mask` alone decides what its levels and colours mean,
for training and for every measure.
"""

from typing import NamedTuple, Optional

import cv2
import numpy as np
from PIL import Image

from SCFNet.errors import InputError
from SCFNet.files import PathLike
from SCFNet.photos.decoding import MOST_PIXELS, open_image, orientation_of, upright
from SCFNet.photos.depth import check_numbers, to_8_bits, white_of
from SCFNet.photos.images import is_deep, read_if

LABELS = 32  # grey levels below this, and no others but VOID, are the numbers of labels
VOID, VOID_COLOUR = 255, (224, 224, 192)  # what belongs to no label, as PASCAL VOC marks it
MOST_COLOURS = 256  # of a label image; a photo has more
NOISE = 24  # levels by which JPEG's channels may be off
DIMMEST = 0.6  # a soft mask's brightest level, as a part of white, is no less; else it is white
DARKEST = 64  # a lossy file whose brightest level is lower holds noise, or labels that are lost
LOSSY = ("JPEG", "MPO", "WEBP", "AVIF", "HEIF")

PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
PLAIN_GREY = (b"\x08\0\0\0\0", b"\x01\0\0\0\0")  # PNG's 8 bits or 1 bit, grey, not interlaced
TWO_CLASSES = np.array([0, 1], "float32")
AS_THEY_ARE = np.arange(256, dtype="float32") / 255
NOT_ZERO = (np.arange(256) > 0).astype("float32")

WAY_OUT = "save it as grey, 0 for the background and 255 for the object"


class UnclearError(InputError):
    """Which pixels are the object cannot be told; the message has no file's name yet."""


class Coded(NamedTuple):
    """A mask as integers, [H, W], and what each of them means: float32 [n] in [0, 1]."""

    codes: np.ndarray
    values: np.ndarray


def read_mask(path: PathLike) -> np.ndarray:
    """Read a mask: float32 [H, W] in [0, 1]; 1 is the object, and edges may be soft.

    - Two levels or colours, whatever they are: the brighter is the object.
    - More grey levels, of 8 bits, 16 bits or floats: soft, on the scale of 255, 65535 or 1; if the
      brightest is below 0.6 of that, it is the object's. A single level is on that scale, too: 0
      is black, 1 and 255 are white.
    - Only levels below 32: labels, of which 0 is the background and all others are objects. So is
      a palette of colours, by index, and a picture of at most 256 colours, by black.
    - Shades of one colour on black: as grey, also as JPEG stores them.
    - Alpha: the mask, if it varies and what is opaque has one colour, or is a picture in colour.
      If alpha does not vary, the colours are the mask.

    Raises InputError as `read_photo` does, and for what cannot be told: a void of 255 beside
    labels, which neither losses nor measures here leave out; a photo; grey and alpha that both
    vary.
    """
    codes, values = _read(path)
    return values[codes]


def read_mask_uint8(path: PathLike) -> np.ndarray:
    """Do `read_mask` as uint8 [H, W], 0 to 255: faster for the usual PNG."""
    codes, values = _read(path)
    if values is AS_THEY_ARE:
        return codes
    levels = to_8_bits(values, 1)
    return cv2.LUT(codes, levels) if len(levels) == 256 else levels[codes]


def read_grey(path: PathLike) -> np.ndarray:
    """Read a saliency map as it is stored, [H, W]: uint8, of deeper files uint16 or float32.

    Colours become their luma. Raises InputError as `read_photo` does.
    """
    with open_image(path) as image:
        grey = np.asarray(image if is_deep(image) else image.convert("L"))
        if grey.dtype.kind == "f" or grey.dtype.itemsize == 4:
            check_numbers(grey)
            small = image.mode == "I" and grey.max() < 2**16  # Pillow may widen 16 bits
            grey = grey.astype("uint16" if small else "float32")
        return upright(grey.astype(grey.dtype.newbyteorder("=")), orientation_of(image))


def read_map_uint8(path: PathLike) -> np.ndarray:
    """Read a saliency map as uint8 [H, W], 0 to 255, without a look for labels in it."""
    grey = read_grey(path)
    if grey.dtype == np.uint8:
        return grey
    return to_8_bits(grey, 65535 if grey.dtype == np.uint16 else white_of(grey.max()))


def _read(path: PathLike) -> Coded:
    try:
        grey = _read_plain_png(path)
        if grey is not None:
            return _code_grey(grey, lossy=False)
        with open_image(path) as image:
            codes, values = _code(_with_low_bytes(image, path))
            return Coded(upright(codes, orientation_of(image)), values)
    except UnclearError as error:
        raise InputError(f"{path}: {error}") from error


def _read_plain_png(path: PathLike) -> Optional[np.ndarray]:
    """Read a whole grey PNG file by OpenCV, for speed: uint8 [H, W]; None for any other file.

    OpenCV accepts truncated files: hence the look at the end.
    """
    data = read_if(path, PNG_START)
    if not data or not data.endswith(PNG_END) or data[24:29] not in PLAIN_GREY or b"eXIf" in data:
        return None
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if width * height > MOST_PIXELS:
        return None
    try:
        grey = cv2.imdecode(np.frombuffer(data, "uint8"), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    return grey if grey is not None and grey.ndim == 2 and grey.dtype == np.uint8 else None


def _with_low_bytes(image: Image.Image, path: PathLike) -> Image.Image:
    """Return `image`, with the low bytes of its colours if they are 16 bits wide and below 256.

    Pillow keeps the high bytes alone, so that such an image is black. Alpha is left out.
    """
    if image.mode not in ("RGB", "RGBA", "LA") or image.convert("L").getextrema()[1]:
        return image
    pixels = cv2.imdecode(np.fromfile(path, "uint8"), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or not 0 < pixels[..., :3].max() < 256:
        return image
    return Image.fromarray(pixels[..., 2::-1].astype("uint8"))


def _code(image: Image.Image) -> Coded:
    """Code a mask by its mode. Raises UnclearError if that cannot be told."""
    lossy = image.format in LOSSY
    if is_deep(image):
        return _code_grey(np.asarray(image), lossy)
    if image.mode == "P":
        coded = _code_palette(image)
        if coded:
            return coded
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        alpha = rgba[..., 3]
        if alpha.min() < alpha.max():
            return _code_alpha(rgba[..., :3], alpha)
    if image.mode in ("1", "L", "LA"):
        return _code_grey(np.asarray(image.convert("L")), lossy)
    return _code_colours(np.asarray(image.convert("RGB")), lossy)


def _code_grey(grey: np.ndarray, lossy: bool) -> Coded:
    if grey.dtype == np.uint8:
        if _is_usual(grey):
            return Coded(grey, AS_THEY_ARE)
        levels = np.flatnonzero(cv2.calcHist([grey], [0], None, [256], [0, 256]))
        values = np.zeros(256, "float32")
        values[levels] = _values(levels, lossy)
        return Coded(grey, values)
    check_numbers(grey)
    levels, codes = np.unique(np.maximum(grey, 0), return_inverse=True)
    return Coded(codes.reshape(grey.shape), _values(levels, lossy))


def _is_usual(grey: np.ndarray) -> bool:
    """Tell whether uint8 [H, W] holds 0 and 255, and others only if some are those of soft edges:
    what `_values` leaves as it is, found without a histogram.
    """
    low, high = cv2.minMaxLoc(grey)[:2]
    if low != 0 or high != 255:
        return False
    all_white = 255 * cv2.countNonZero(grey) == cv2.sumElems(grey)[0]
    return all_white or cv2.countNonZero(cv2.inRange(grey, LABELS, 254)) > 0


def _values(levels: np.ndarray, lossy: bool) -> np.ndarray:
    """Say what the grey levels of a mask stand for. `levels` are those that occur, ascending."""
    brightest = levels[-1]
    if lossy and 1 < brightest < DARKEST:
        raise UnclearError(f"is too dark for a mask: its brightest level is {brightest}; {WAY_OUT}")
    if len(levels) == 1:
        return (levels / white_of(brightest)).astype("float32")
    if len(levels) == 2:
        return TWO_CLASSES
    whole = levels.dtype.kind != "f"
    if not lossy and whole and levels[levels != VOID][-1] < LABELS:
        _refuse_void(VOID in levels)
        return (levels > 0).astype("float32")
    white = white_of(brightest)
    return (levels / (white if brightest >= DIMMEST * white else brightest)).astype("float32")


def _code_palette(image: Image.Image) -> Optional[Coded]:
    """Code by index; None if the palette says more: greys, or one colour of many alphas."""
    codes = np.asarray(image)
    palette = np.zeros((256, 3), int)
    given = np.reshape(image.getpalette("RGB") or [], (-1, 3))
    palette[: len(given)] = given
    used = np.unique(codes)
    colours = palette[used]
    if (np.ptp(colours, axis=1) == 0).all() or (colours == colours[0]).all():
        return None
    black = (colours == 0).all(axis=1)
    if len(used) == 2 and black.any() and palette[0].any():
        return None  # made by a program that sorts colours its own way: black is the background
    _refuse_void(VOID in used and len(used) > 2)
    return Coded(codes, NOT_ZERO)


def _code_alpha(colours: np.ndarray, alpha: np.ndarray) -> Coded:
    opaque = _distinct(colours[alpha > min(127, alpha.max() - 1)])
    coloured = np.ptp(opaque.astype(int), axis=1).any()
    if len(opaque) == 1 or (coloured and len(opaque) > 2):
        return _code_grey(np.ascontiguousarray(alpha), lossy=False)
    raise UnclearError(f"its colours and its alpha both vary; {WAY_OUT}")


def _code_colours(colours: np.ndarray, lossy: bool) -> Coded:
    """Code RGB uint8 [H, W, 3]."""
    shade = colours.max(axis=2)
    distinct = _distinct(colours)
    if len(distinct) == 2:
        luma = distinct @ (0.299, 0.587, 0.114)
        brighter = distinct[luma.argmax()]
        return Coded((colours == brighter).all(axis=2).astype("uint8"), TWO_CLASSES)
    main = distinct[distinct.sum(axis=1).argmax()]
    expected = shade[..., None] * (main / max(1, main.max())).astype("float32")
    if np.abs(colours - expected).max() <= NOISE:
        colourless = np.ptp(main.astype(int)) <= NOISE
        stretched = shade if colourless else cv2.convertScaleAbs(shade, alpha=255 / main.max())
        return _code_grey(stretched, lossy)
    black = (distinct == 0).all(axis=1)
    if len(distinct) > MOST_COLOURS or not black.any() or lossy:
        raise UnclearError(f"is a colour picture, not a mask; {WAY_OUT}")
    _refuse_void((distinct == VOID_COLOUR).all(axis=1).any())
    return Coded(shade, NOT_ZERO)


def _distinct(colours: np.ndarray) -> np.ndarray:
    """List the different colours [n, 3] of uint8 [..., 3]."""
    packed = np.unique(
        colours.reshape(-1, 3).astype("uint32") @ np.array([65536, 256, 1], "uint32")
    )
    return np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=1).astype("uint8")


def _refuse_void(found: bool) -> None:
    if found:
        raise UnclearError(
            "has a void (255) beside its labels, which neither losses nor measures leave out;"
            " make it 0 (background) or a label"
        )
