"""Pictures of a result: the mask, the cut-out and the overlay."""

from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

from SCFNet.errors import ArgumentError
from SCFNet.files import exists
from SCFNet.maps import clean_alpha, resize_map, to_bytes
from SCFNet.photos.reading import Photo, opaque, read_image

# How a picture of each kind is named after the photo's stem.
ENDINGS = {"mask": ".png", "cutout": "-cutout.png", "overlay": "-overlay.jpg"}

TINT = np.array([255, 45, 85], "float32")  # RGB of the overlay
TINT_STRENGTH = 0.4

BLURRED_SIDE = 1000  # pixels of the longer side of what `object_colors` blurs
BLURS = (1 / 4, 1 / 15, 1 / 75)  # kernel sizes in that, by the longer side


class RenderOptions(NamedTuple):
    """What is made of a map.

    Args:
        kinds: keys of `ENDINGS`: a picture is made of each.
        clean: make the mask by `maps.clean_alpha`, as the others are, else by the network alone.
        align_corners: resize maps as the release's test script does, else as its notebook.
        threshold: in [0, 1]; masks are hard: what reaches it is the object.
        crop: cut everything to the box of the object.
        background: RGB uint8 [h, w, 3] under cut-outs, [1, 1, 3] for one colour.
        edge_colors: free the soft rim of cut-outs from the colours of the old background.
    """

    kinds: Sequence[str] = ("mask",)
    clean: bool = False
    align_corners: bool = False
    threshold: Optional[float] = None
    crop: bool = False
    background: Optional[np.ndarray] = None
    edge_colors: bool = False


def name_endings(kinds: Sequence[str], picture_format: str = "") -> List[str]:
    """Return how the pictures of these kinds are named behind the stem: `ENDINGS`, in the format
    that is given ('png', 'webp', 'jpg').
    """
    endings = [ENDINGS[kind] for kind in kinds]
    if not picture_format:
        return endings
    return [f"{ending[: ending.rindex('.')]}.{picture_format}" for ending in endings]


def name_video_endings(
    kinds: Sequence[str], video_format: str = "", on_background: bool = False
) -> List[str]:
    """Return how videos of these kinds are named behind the stem: in the format that is given
    ('mp4', 'webm', 'mov'), else as MP4, but cut-outs as WebM, which can be transparent, unless they
    lie on a background.
    """
    stems = [ENDINGS[kind].rpartition(".")[0] for kind in kinds]
    clear = [kind == "cutout" and not on_background for kind in kinds]
    return [f"{s}.{video_format or ('webm' if c else 'mp4')}" for s, c in zip(stems, clear)]


def make_alphas(
    saliency: np.ndarray, shape: Tuple[int, int], sharpened: float, options: RenderOptions
) -> Dict[str, np.ndarray]:
    """Make the alpha of each kind of picture, uint8 [H, W], of a network's map; under 'crop' the
    alpha whose box all are cropped to.

    Args:
        saliency: float32 [h, w] in [0, 1].
        shape: (H, W) of the photo.
        sharpened: what the network's logits were multiplied by: see `clean_alpha`.
        options: which kinds, and how.
    """
    alphas = {}
    if "mask" in options.kinds and not options.clean:
        saliency_map = resize_map(saliency, shape, options.align_corners)
        alphas["mask"] = to_bytes(saliency_map, options.threshold)
    others = [kind for kind in options.kinds if kind not in alphas] + ["crop"] * options.crop
    if others:
        clean = clean_alpha(saliency, shape, sharpened, options.align_corners, options.threshold)
        alphas.update(dict.fromkeys(others, clean))
    return alphas


def draw(
    photo: Photo, alphas: Dict[str, np.ndarray], options: RenderOptions
) -> Iterator[np.ndarray]:
    """Draw the picture of each of `options.kinds`, as `render` returns it.

    Cut-outs are of the photo's own colours, overlays of the photo over white; what is transparent
    in it stays so. `alphas` are those of `make_alphas`.
    """
    if photo.alpha is not None:
        alphas = {kind: np.minimum(alpha, photo.alpha) for kind, alpha in alphas.items()}
    box = object_box(alphas["crop"]) if options.crop else (slice(None), slice(None))
    for kind in options.kinds:
        image = opaque(photo) if kind == "overlay" else photo.image
        yield render(kind, image[box], alphas[kind][box], options)


def render(kind: str, image: np.ndarray, alpha: np.ndarray, options: RenderOptions) -> np.ndarray:
    """Make the picture of `kind` ('mask', 'cutout', 'overlay') of RGB uint8 [H, W, 3] and `alpha`
    uint8 [H, W]: grey [H, W], RGBA [H, W, 4] (RGB over the background if there is one), RGB
    [H, W, 3].
    """
    if kind == "mask":
        return alpha
    if kind == "overlay":
        return overlay(image, alpha)
    if options.edge_colors:
        image = object_colors(image, alpha)
    if options.background is None:
        return np.dstack([image, alpha])
    return blend(image, cover(options.background, alpha.shape), alpha)


def object_box(alpha: np.ndarray) -> Tuple[slice, slice]:
    """Find the rows and columns of the box around all of `alpha` [H, W] that is at least 128; the
    whole picture if nothing is.
    """
    seen = alpha >= 128
    rows, columns = (np.flatnonzero(seen.any(axis)) for axis in (1, 0))
    if not rows.size:
        return slice(None), slice(None)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def overlay(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Tint and outline the object in the photo, RGB uint8 [H, W, 3]."""
    tint = np.broadcast_to(TINT.astype("uint8"), image.shape)
    picture = blend(tint, image, cv2.convertScaleAbs(alpha, alpha=TINT_STRENGTH))
    hard = np.where(alpha >= 128, np.uint8(255), np.uint8(0))
    contours = cv2.findContours(hard, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)[0]
    width = max(1, round(min(image.shape[:2]) / 200))
    cv2.drawContours(picture, contours, -1, (255, 255, 255), 3 * width, cv2.LINE_AA)
    cv2.drawContours(picture, contours, -1, TINT.tolist(), width, cv2.LINE_AA)
    return picture


def object_colors(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Estimate the object's own colours, RGB uint8 [H, W, 3], where `alpha`, uint8 [H, W], mixes
    them with those of the background.

    This is blur fusion (Forte, "Approximate Fast Foreground Colour Estimation", ICIP 2021): the
    object and the background are blurred, each by its share, ever less widely, and what the photo
    differs from their mixture is added. The blurs run on a photo of at most 1000 pixels a side.
    """
    height, width = alpha.shape
    scale = min(1.0, BLURRED_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype("float32")
    share = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA).astype("float32")[..., None] / 255
    front, back = small, small
    for part in BLURS:
        kernel_size = max(3, round(max(size) * part))
        mean = _weighted_blur(front, share, kernel_size)
        back = _weighted_blur(back, 1 - share, kernel_size)
        front = _unmix(small, mean, back, share)
    large = [cv2.resize(np.rint(part).astype("uint8"), (width, height)) for part in (mean, back)]
    colors = np.empty_like(image)
    for rows in _strips(height):
        share = alpha[rows, :, None].astype("float32") / 255
        colors[rows] = np.rint(_unmix(image[rows], large[0][rows], large[1][rows], share))
    return colors


def _weighted_blur(image: np.ndarray, weight: np.ndarray, kernel_size: int) -> np.ndarray:
    """Average `image` [H, W, 3] around each pixel, by `weight` [H, W, 1]."""
    kernel = kernel_size, kernel_size
    weight_mean = cv2.blur(weight, kernel)[..., None]
    return cv2.blur(image * weight, kernel) / (weight_mean + 1e-4)


def _unmix(image: np.ndarray, front: np.ndarray, back: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Correct `front` by what `image` differs from its mixture with `back`."""
    return (front + share * (image - (share * front + (1 - share) * back))).clip(0, 255)


def blend(front: np.ndarray, back: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Lay `front` over `back`, uint8 [H, W, 3] both, by `alpha` uint8 [H, W]."""
    picture = np.empty(back.shape, "uint8")
    for rows in _strips(len(picture)):
        weight = alpha[rows, :, None].astype("float32") / 255
        mixed = back[rows] + (front[rows].astype("float32") - back[rows]) * weight
        picture[rows] = np.rint(mixed)
    return picture


def _strips(height: int) -> Iterator[slice]:
    """Split a photo's rows into strips, so that a huge one has no full-size copy in floats."""
    return (slice(top, top + 256) for top in range(0, height, 256))


def parse_background(text: str) -> np.ndarray:
    """Read RGB uint8 [H, W, 3] of an image file, or make [1, 1, 3] of a colour ('white',
    '#20a0ff').

    Raises ArgumentError for what is neither, InputError for an image that cannot be read.
    """
    from PIL import ImageColor

    try:
        return np.array(ImageColor.getcolor(text, "RGB"), "uint8").reshape(1, 1, 3)
    except ValueError as error:
        if exists(text):
            return read_image(text)
        raise ArgumentError(
            "background", f"{text}: neither a colour (white, #20a0ff) nor an image file"
        ) from error


def cover(background: np.ndarray, shape: Tuple[int, int]) -> np.ndarray:
    """Bring `background` [h, w, 3] to `shape` (H, W): scaled to cover it, its middle kept."""
    (height, width), (rows, columns) = shape, background.shape[:2]
    if (rows, columns) == (height, width):
        return background
    if (rows, columns) == (1, 1):
        return np.broadcast_to(background, (height, width, 3))
    scale = max(height / rows, width / columns)
    rows, columns = max(height, round(rows * scale)), max(width, round(columns * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    large = cv2.resize(background, (columns, rows), interpolation=method)
    top, left = (rows - height) // 2, (columns - width) // 2
    return large[top : top + height, left : left + width]
