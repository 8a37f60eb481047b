"""Augmentation: random variants of a photo and its mask, the release's and stronger ones."""

from typing import NamedTuple, Optional, Tuple

import cv2
import numpy as np

Pair = Tuple[np.ndarray, Optional[np.ndarray]]

BLUR_CHANCE, BLUR_SIZES = 0.1, (3, 10)
CONTRAST, BRIGHTNESS = (0.5, 1.5), (-15, 15)
HORIZONTAL_FLIP = 0.5

HUE_SHIFT = 9  # at most, of OpenCV's 180 steps around the circle
SATURATION = (0.4, 1.6)  # factors
OBJECT_KEPT = 0.5  # share of the object that a strong crop must keep
PASTED_SIDE = (0.2, 0.7)  # longer side of a pasted object, as a share of the photo's shorter side
ZOOM_SIDE = (0.6, 1.8)  # side of a zoom's window, as a share of the object's
ZOOM_SHIFT = (-0.5, 0.5)  # of the window from the object's middle, as a share of the object's side
ZOOM_LEAST = 96  # pixels, a window's smallest side: fewer would be blurred by the resize
ZOOM_KEPT = 0.3  # share of the object that a zoom must keep


class Augmentation(NamedTuple):
    """How strong the augmentation is; the defaults are the release's.

    Args:
        crop: the largest share of each side that the random crop cuts off, in [0, 1).
        colour: also shift the hue and scale the saturation.
        paste: the chance that the object of another pair is pasted onto the photo.
        zoom: the chance of a crop around the object, so close that the frame often cuts it.
        vertical_flip: the chance that the photo is turned upside down.
        light: also blur, and shift contrast and brightness.
    """

    crop: float = 1 / 8
    colour: bool = False
    paste: float = 0.0
    zoom: float = 0.0
    vertical_flip: float = 0.2
    light: bool = True


RELEASE = Augmentation()
PAPER = Augmentation(light=False)  # what the paper's text names: flips, crops, sizes
STRONG = Augmentation(crop=0.5, colour=True, paste=0.3)  # for runs long enough to overfit


def augment(
    image: np.ndarray,
    mask: Optional[np.ndarray],
    rng: np.random.Generator,
    settings: Augmentation = RELEASE,
) -> Pair:
    """Return a random variant of a photo, RGB uint8 [H, W, 3], and its mask, uint8 [H, W], or None.

    The release's steps are a Gaussian blur, contrast and brightness with a clip, a crop of up to
    1/8 of each side, a horizontal and a vertical flip. Blur and colour leave the mask alone.

    The release works in floats, and crops after it has normalised. Here the photo is cropped before
    its colours change, stays uint8, and is normalised when a network gets it: normalisation is
    affine and bilinear weights sum to 1, so it and the resize commute. The distribution is the
    same, up to rounding to one grey level.
    """
    if settings.light and rng.random() < BLUR_CHANCE:
        size = int(rng.integers(*BLUR_SIZES)) | 1  # 3 is half as likely as 5, 7 and 9
        image = cv2.GaussianBlur(image, (size, size), 0)
    if rng.random() < settings.zoom and mask is not None:
        image, mask = _zoom(image, mask, rng)
    image, mask = _crop(image, mask, rng, settings.crop)
    if settings.light:
        contrast, brightness = rng.uniform(*CONTRAST), float(rng.integers(*BRIGHTNESS))
        image = cv2.addWeighted(image, contrast, image, 0, brightness)  # rounds and clips
    if settings.colour:
        image = _shift_colour(image, rng)
    for axis, chance in ((1, HORIZONTAL_FLIP), (0, settings.vertical_flip)):  # 1 is left to right
        if rng.random() < chance:
            image, mask = cv2.flip(image, axis), None if mask is None else cv2.flip(mask, axis)
    return image, mask


def paste_object(
    image: np.ndarray,
    mask: np.ndarray,
    donor_image: np.ndarray,
    donor_mask: np.ndarray,
    rng: np.random.Generator,
) -> Pair:
    """Paste the donor's object, scaled and mirrored at random, at a random place of `image`.

    The masks are united. If the donor's mask is empty, the pair is returned unchanged. Photos are
    RGB uint8 [H, W, 3], masks uint8 [H, W]; the donor's may be of another size.
    """
    box = _box(donor_mask)
    if not box:
        return image, mask
    part, alpha = donor_image[box], donor_mask[box]
    scale = rng.uniform(*PASTED_SIDE) * min(mask.shape) / max(alpha.shape)
    height, width = (max(1, round(side * scale)) for side in alpha.shape)
    part = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
    alpha = cv2.resize(alpha, (width, height), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        part, alpha = part[:, ::-1], alpha[:, ::-1]
    top = rng.integers(mask.shape[0] - height + 1)
    left = rng.integers(mask.shape[1] - width + 1)
    place = np.s_[top : top + height, left : left + width]
    image, mask = image.copy(), mask.copy()
    weight = alpha[..., None] / 255
    image[place] = np.rint(part * weight + image[place] * (1 - weight))
    mask[place] = np.maximum(mask[place], alpha)
    return image, mask


def _box(mask: np.ndarray) -> Tuple[slice, ...]:
    """Find the rows and the columns of the object; () if the mask is empty."""
    places = [np.flatnonzero((mask > 127).any(axis)) for axis in (1, 0)]
    return tuple(slice(place[0], place[-1] + 1) for place in places if place.size)


def _zoom(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Pair:
    """Crop to a window around the object; not if there is no object, or the window loses it."""
    window = tuple(_near(extent, side, rng) for extent, side in zip(_box(mask), mask.shape))
    if not window or mask[window].sum() < ZOOM_KEPT * mask.sum():
        return image, mask
    return image[window], mask[window]


def _near(extent: slice, side: int, rng: np.random.Generator) -> slice:
    """Draw an interval of a photo's `side` around the `extent` of the object on it."""
    size = extent.stop - extent.start
    length = min(side, max(ZOOM_LEAST, round(size * rng.uniform(*ZOOM_SIDE))))
    centre = extent.start + size * (0.5 + rng.uniform(*ZOOM_SHIFT))
    start = min(max(0, round(centre - length / 2)), side - length)
    return slice(start, start + length)


def _shift_colour(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shift the hue and scale the saturation of RGB uint8 [H, W, 3]."""
    levels = np.arange(256)
    hue = (levels + rng.integers(-HUE_SHIFT, HUE_SHIFT + 1)) % 180
    saturation = np.minimum(levels * rng.uniform(*SATURATION), 255)
    table = np.stack([hue, saturation, levels], axis=-1).astype("uint8")[None]  # (1, 256, 3)
    return cv2.cvtColor(cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), table), cv2.COLOR_HSV2RGB)


def _crop(
    image: np.ndarray, mask: Optional[np.ndarray], rng: np.random.Generator, cut: float
) -> Pair:
    """Cut off up to `cut` of each side, at a random offset; not if that loses the object.

    A crop of at most 1/8 is the release's, and is made whatever it loses.
    """
    window = tuple(_interval(side, cut, rng) for side in image.shape[:2])
    if mask is None:
        return image[window], None
    if cut > RELEASE.crop and mask[window].sum() < OBJECT_KEPT * mask.sum():
        return image, mask
    return image[window], mask[window]


def _interval(side: int, cut: float, rng: np.random.Generator) -> slice:
    """Draw what is left of a `side` of which up to `cut` is cut off."""
    removed = int(rng.integers(max(1, int(side * cut))))
    start = int(rng.integers(max(1, removed)))
    return slice(start, start + side - removed)
