"""Masks in any coding: reading which pixels are the object, for training and scoring."""

from typing import NamedTuple, Optional, Tuple

import cv2
import numpy as np
from PIL import Image

from SCFNet.errors import InputError, is_memory_short
from SCFNet.files import PathLike
from SCFNet.photos.depth import check_numbers, is_deep, to_8_bits, white_of
from SCFNet.photos.opening import MOST_PIXELS, open_image, read_bytes
from SCFNet.photos.orientation import orientation_of, upright

LABELS = 32  # grey levels below this, and no others but VOID, are the numbers of labels
VOID, VOID_COLOUR = 255, (224, 224, 192)  # what belongs to no label, as PASCAL VOC marks it
MOST_COLOURS = 256  # of a label image; a photo has more
NOISE = 24  # levels by which JPEG's channels may be off
DIMMEST = 0.6  # a soft mask's brightest level, as a part of white, is no less; else it is white
DARKEST = 64  # a lossy file whose brightest level is lower holds noise, or labels that are lost
LOSSY = ("JPEG", "MPO", "WEBP", "AVIF", "HEIF")

PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
LIBPNGS_SIDE = 1_000_000  # pixels; Pillow reads more
PLAIN_GREY = (b"\x08\0\0\0\0", b"\x01\0\0\0\0")  # PNG's 8 bits or 1 bit, grey, not interlaced

WAY_OUT = "save it as grey, 0 for the background and 255 for the object"


class UnclearError(InputError):
    """Which pixels are the object cannot be told."""


class Decoded(NamedTuple):
    """A mask, uint8 [H, W], and whether some of its pixels, which are 0 here, are void: they belong
    to no label.
    """

    mask: np.ndarray
    has_void: bool = False


def read_mask(path: PathLike, void_is_background: bool = False) -> np.ndarray:
    """Return a mask, uint8 [H, W], upright: 0 the background, 255 the object; edges may be soft.

    - Two levels or colours, whatever they are: the brighter is the object.
    - More grey levels, of 8 bits, 16 bits or floats: soft, on the scale of 255, 65535 or 1; if the
      brightest is below 0.6 of that, it is the object's. A single level is on that scale, too: 0
      is black, 1 and 255 are white.
    - Only levels below 32, or few below 0.6 of white of which some fill areas: labels, of which 0
      is the background and all others are objects. So is a palette of colours, by index, and a
      picture of at most 256 colours, by black. 255 beside labels below 32 is void.
    - Shades of one colour on black: as grey, also as JPEG stores them.
    - Alpha: the mask, if it varies and what is opaque has one colour, or is a picture in colour.
      If alpha does not vary, the colours are the mask.

    Raises InputError as `decode_mask` does, and for a void, unless `void_is_background`.
    """
    mask, has_void = decode_mask(path)
    if has_void and not void_is_background:
        way_out = "make it 0 (background) or a label"
        raise InputError(f"{path}: has a void (255) beside its labels; {way_out}")
    return mask


def decode_mask(path: PathLike) -> Decoded:
    """Read a mask as `read_mask` does. Raises InputError as `read_photo` does; UnclearError for
    what cannot be told: a photo, or grey and alpha that both vary.
    """
    try:
        data = read_bytes(path)
        grey = read_plain_png(path, data)
        if grey is not None:
            return _from_grey(grey, lossy=False)
        with open_image(path, data) as image:
            mask, has_void = _from_image(_with_low_bytes(image, data))
            return Decoded(upright(mask, orientation_of(image)), has_void)
    except UnclearError as error:
        raise UnclearError(f"{path}: {error}") from error


def read_plain_png(path: PathLike, data: bytes) -> Optional[np.ndarray]:
    """Return a grey PNG file's pixels, uint8 [H, W], by OpenCV, for speed; None of any other file.

    Raises InputError if rows are missing, which Pillow takes for black.
    """
    if not data.startswith(PNG_START) or not data.endswith(PNG_END):
        return None
    if data[24:29] not in PLAIN_GREY or b"eXIf" in data:
        return None
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if width * height > MOST_PIXELS or max(width, height) > LIBPNGS_SIDE:
        return None
    fault = "cannot be read as an image: truncated, or damaged"
    try:
        grey = cv2.imdecode(np.frombuffer(data, "uint8"), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        grey, fault = None, "not enough memory" if is_memory_short(error) else fault
    if grey is None:
        raise InputError(f"{path}: {fault}")
    return grey if grey.ndim == 2 and grey.dtype == np.uint8 else None


def _with_low_bytes(image: Image.Image, data: bytes) -> Image.Image:
    """Return `image`, with the low bytes of its colours if they are 16 bits wide and below 256.

    Pillow keeps the high bytes alone, so that such an image is black. Alpha is left out.
    """
    if image.mode not in ("RGB", "RGBA", "LA") or image.convert("L").getextrema()[1]:
        return image
    pixels = cv2.imdecode(np.frombuffer(data, "uint8"), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or not 0 < pixels[..., :3].max() < 256:
        return image
    return Image.fromarray(pixels[..., 2::-1].astype("uint8"))


def _from_image(image: Image.Image) -> Decoded:
    """Decode a mask by its mode. Raises UnclearError if that cannot be told."""
    lossy = image.format in LOSSY
    if is_deep(image):
        return _from_grey(np.asarray(image), lossy)
    if image.mode == "P":
        decoded = _from_palette(image)
        if decoded:
            return decoded
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        alpha = rgba[..., 3]
        if alpha.min() < alpha.max():
            return _from_alpha(rgba[..., :3], alpha)
    if image.mode in ("1", "L", "LA"):
        return _from_grey(np.asarray(image.convert("L")), lossy)
    return _from_colours(np.asarray(image.convert("RGB")), lossy)


def _from_grey(grey: np.ndarray, lossy: bool) -> Decoded:
    """Decode grey pixels [H, W] of any type."""
    if grey.dtype != np.uint8:
        check_numbers(grey)
        levels, codes = np.unique(np.maximum(grey, 0), return_inverse=True)
        values, has_void = _values(levels, grey, lossy)
        return Decoded(values[codes].reshape(grey.shape), has_void)
    if _is_usual(grey):
        return Decoded(grey)
    levels = np.flatnonzero(cv2.calcHist([grey], [0], None, [256], [0, 256]))
    table = np.zeros(256, "uint8")
    table[levels], has_void = _values(levels, grey, lossy)
    return Decoded(cv2.LUT(grey, table), has_void)


def _is_usual(grey: np.ndarray) -> bool:
    """Return whether uint8 [H, W] holds 0 and 255, and others only if some are those of soft edges:
    what `_values` leaves as it is, found without a histogram.
    """
    low, high = cv2.minMaxLoc(grey)[:2]
    if low != 0 or high != 255:
        return False
    all_white = 255 * cv2.countNonZero(grey) == cv2.sumElems(grey)[0]
    return all_white or cv2.countNonZero(cv2.inRange(grey, LABELS, 254)) > 0


def _values(levels: np.ndarray, grey: np.ndarray, lossy: bool) -> Tuple[np.ndarray, bool]:
    """Return what each of a mask's grey levels stands for, uint8 [n], and whether one is void.
    `levels` are those that occur in `grey` [H, W], ascending.
    """
    brightest = levels[-1]
    if lossy and 1 < brightest < DARKEST:
        raise UnclearError(f"is too dark for a mask: its brightest level is {brightest}; {WAY_OUT}")
    white = white_of(brightest)
    if len(levels) == 1:
        return to_8_bits(levels, white), False
    is_label = (levels > 0) & (levels != VOID)
    whole = levels.dtype.kind != "f" and not lossy
    is_dim = brightest < DIMMEST * white
    are_labels = (
        whole
        and is_label.any()
        and (levels[is_label][-1] < LABELS or (is_dim and _fill_areas(levels[1:-1], grey)))
    )
    if len(levels) == 2 and not (are_labels and levels[0] and brightest == VOID):
        return np.array([0, 255], "uint8"), False
    if are_labels:
        return 255 * is_label.astype("uint8"), bool(brightest == VOID)
    return to_8_bits(levels, brightest if is_dim else white), False


def _fill_areas(levels: np.ndarray, grey: np.ndarray) -> bool:
    """Return whether levels are few, and some fill squares of 3 x 3: those of soft edges do not."""
    square = np.ones((3, 3), "uint8")
    areas = (cv2.erode((grey == level).astype("uint8"), square) for level in levels)
    return len(levels) < LABELS and any(area.any() for area in areas)


def _from_palette(image: Image.Image) -> Optional[Decoded]:
    """Decode by index; None if the palette says more: greys, or one colour of many alphas."""
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
    has_void = VOID in used and used.tolist() != [0, VOID]
    return Decoded(255 * ((codes > 0) & ~(has_void & (codes == VOID))).astype("uint8"), has_void)


def _from_alpha(colours: np.ndarray, alpha: np.ndarray) -> Decoded:
    opaque = _distinct(colours[alpha > min(127, alpha.max() - 1)])
    coloured = np.ptp(opaque.astype(int), axis=1).any()
    if len(opaque) == 1 or (coloured and len(opaque) > 2):
        return _from_grey(np.ascontiguousarray(alpha), lossy=False)
    raise UnclearError(f"its colours and its alpha both vary; {WAY_OUT}")


def _from_colours(colours: np.ndarray, lossy: bool) -> Decoded:
    """Decode RGB uint8 [H, W, 3]."""
    shade = colours.max(axis=2)
    distinct = _distinct(colours)
    black, void = ((distinct == colour).all(axis=1).any() for colour in (0, VOID_COLOUR))
    if len(distinct) == 2 and (black or not void):
        brighter = distinct[(distinct @ (0.299, 0.587, 0.114)).argmax()]
        return Decoded(255 * (colours == brighter).all(axis=2).astype("uint8"))
    main = distinct[distinct.sum(axis=1).argmax()]
    expected = shade[..., None] * (main / max(1, main.max())).astype("float32")
    if np.abs(colours - expected).max() <= NOISE:
        colourless = np.ptp(main.astype(int)) <= NOISE
        stretched = shade if colourless else cv2.convertScaleAbs(shade, alpha=255 / main.max())
        return _from_grey(stretched, lossy)
    if len(distinct) > MOST_COLOURS or not (black or void) or lossy:
        raise UnclearError(f"is a colour picture, not a mask; {WAY_OUT}")
    is_object = (shade > 0) & (colours != VOID_COLOUR).any(axis=2)
    return Decoded(255 * is_object.astype("uint8"), bool(void))


def _distinct(colours: np.ndarray) -> np.ndarray:
    """List the different colours [n, 3] of uint8 [..., 3]."""
    packed = np.unique(
        colours.reshape(-1, 3).astype("uint32") @ np.array([65536, 256, 1], "uint32")
    )
    return np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=1).astype("uint8")
