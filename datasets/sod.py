"""A data set's folder: which photos and masks belong to it, whether they are whole, reading."""

import os
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from datasets.layout import (
    IMAGES,
    LAYOUT,
    MASKS,
    PHOTOS_LAYOUT,
    files_by_stem,
    find_folder,
    find_list,
    read_list,
)
from datasets.maps import check_not_turned, read_map
from datasets.masks import PNG_END, read_mask
from SCFNet.errors import InputError
from SCFNet.files import PathLike, check_is_file, check_is_folder, first_few
from SCFNet.photos.decoding import FORMATS, orientation_of
from SCFNet.photos.images import read_image

JPEG_END = b"\xff\xd9"


class Sample(NamedTuple):
    """One photo of a data set: `stem` is its path in the image folder, without the suffix.

    `white` is given if the mask is a network's map, which is soft and may be of another size than
    the photo: the number that stands for 1 in it, see `maps.find_whites`.
    """

    stem: str
    image: Path
    mask: Optional[Path]
    white: Optional[float] = None

    @property
    def is_map(self) -> bool:
        """Whether the mask is a network's map."""
        return self.white is not None


def list_pairs(root: PathLike, split: str = "train", labelled: bool = True) -> List[Sample]:
    """List the samples of the data set in folder `root`, sorted as its list is, else by name.

    The photos are those of `root`/image, at any depth, and the masks those of `root`/mask, of the
    same stems; `layout.find_folder` says how these folders may be called. (An unlabelled set may
    also lie in `root` itself.) The list is `root`/train.txt or test.txt, that of `split` ('train'
    or 'test') if there are both; see `layout.read_list`. Without a list all images count. With
    `labelled` false masks are neither looked for nor returned.

    Raises InputError, which lists the first ten faults and counts them: a listed image that is
    missing, an image without mask, a mask without image if there is no list, two files of one
    stem. No file is opened: see `check_files`.
    """
    root = Path(root)
    layout = LAYOUT if labelled else PHOTOS_LAYOUT
    check_is_folder(root, layout)
    images, faults = files_by_stem(_folder(root, IMAGES) if labelled else _photos(root))
    masks: Dict[str, Path] = {}
    if labelled:
        masks, more_faults = files_by_stem(_folder(root, MASKS))
        faults += more_faults
    listing = find_list(root, split)
    if listing:
        stems = read_list(listing, images, masks)
    else:
        stems = {stem: stem for stem in sorted(images)}
        faults += [f"{masks[stem]} has no image" for stem in sorted(masks.keys() - images.keys())]
    if not stems:
        raise InputError(f"{listing or root}: names no images; {layout}")
    for stem, mask in stems.items():
        if stem not in images:
            faults.append(f"{stem} has no image")
        elif labelled and mask not in masks:
            faults.append(f"{images[stem]} has no mask")
    _raise_faults(root, faults)
    return [Sample(stem, images[stem], masks.get(mask)) for stem, mask in stems.items()]


def list_masks(root: PathLike, split: str = "test") -> Dict[str, Path]:
    """List the masks by stem of the data set in folder `root`, as `list_pairs` finds them, but
    without a look at its photos. Raises InputError as it does.
    """
    root = Path(root)
    masks = list_folder(_folder(root, MASKS))
    listing = find_list(root, split)
    stems = read_list(listing, masks, masks) if listing else {stem: stem for stem in masks}
    _raise_faults(root, [f"{stem} has no mask" for stem in stems if stems[stem] not in masks])
    return {stem: masks[mask] for stem, mask in stems.items()}


def list_folder(folder: PathLike) -> Dict[str, Path]:
    """List the image files below `folder`, at any depth, by stem. Raises InputError if there are
    none, or two of one stem.
    """
    check_is_folder(folder)
    files, faults = files_by_stem(Path(folder))
    _raise_faults(Path(folder), faults)
    if not files:
        raise InputError(f"{folder}: there are no image files in this folder")
    return files


def has_masks(root: PathLike) -> bool:
    """Tell whether the data set in folder `root` has a folder of masks."""
    return Path(root).is_dir() and find_folder(Path(root), MASKS) is not None


def check_files(samples: Sequence[Sample]) -> None:
    """Check that each file of `samples` opens, is whole, and that its mask has the photo's size.

    Raises InputError, which lists the first ten faults and counts them; see `find_faults`.
    """
    _raise_faults(samples[0].image.parent, [fault for _, fault in find_faults(samples)])


def find_faults(samples: Sequence[Sample]) -> List[Tuple[Sample, str]]:
    """Find the samples with a file that does not open or is not whole, or with a mask of another
    size, and what is wrong. Only headers and ends are read; what looks odd there is decoded.
    """
    faults = []
    bar = tqdm(samples, "checking files", leave=False, delay=2, unit="image", disable=None)
    for sample in bar:
        if not _looks_whole(sample):
            try:
                read_pair(sample)
            except InputError as error:
                faults.append((sample, str(error)))
    return faults


def read_pair(sample: Sample) -> Tuple[np.ndarray, Optional[np.ndarray]]:
    """Return (RGB uint8 [H, W, 3], mask [H, W] in 0..255 or None).

    A mask is uint8, and its void is background; a network's map is uint8 or float32, and may be of
    another size. Raises InputError for a file that cannot be read, a mask of another size than its
    photo, or a map that lies on its side.
    """
    image = read_image(sample.image)
    if sample.mask is None:
        return image, None
    height, width = image.shape[:2]
    if sample.white is not None:
        saliency = read_map(sample.mask, sample.white)
        check_not_turned(sample.mask, saliency, width, height)
        if saliency.dtype == np.uint8:
            return image, saliency
        largest = 65535 if saliency.dtype == np.uint16 else 1
        return image, np.clip(saliency * (255 / largest), 0, 255).astype("float32")
    mask = read_mask(sample.mask, void_is_background=True)
    if mask.shape != (height, width):
        rows, columns = mask.shape
        raise InputError(
            f"{sample.mask}: is {columns}x{rows}, but its image {sample.image} is {width}x{height}"
        )
    return image, mask


def _folder(root: Path, kind: Sequence[str]) -> Path:
    """Find the folder in `root` with a name of `kind`. Raises InputError if there is none."""
    found = find_folder(root, kind)
    if not found:
        raise InputError(f"{root}: has no folder {kind[0]}/; {LAYOUT}")
    return found


def _photos(root: Path) -> Path:
    """Find the photos of a set without masks: they are in `root` itself, unless it has a folder
    image/ or is a set with masks. An album called 'wedding-images' is one of several.
    """
    found = find_folder(root, IMAGES)
    whole = found and (found.name.lower() in IMAGES or has_masks(root))
    return found if found and whole else root


def _raise_faults(place: Path, faults: List[str]) -> None:
    if faults:
        raise InputError(f"{place}: {len(faults)} faults: {first_few(faults, 10, '; ')}")


def _looks_whole(sample: Sample) -> bool:
    """Tell whether header and end of photo and map are as they should be, and the mask can be read
    and has the photo's size.
    """
    try:
        size = _size_if_whole(sample.image)
        if sample.mask is None or size is None:
            return size is not None
        if sample.is_map:
            return _size_if_whole(sample.mask) is not None
        return read_mask(sample.mask, void_is_background=True).shape == size
    except Exception:  # the fault is for the reader to tell
        return False


def _size_if_whole(path: Path) -> Optional[Tuple[int, int]]:
    """Read height and width of an upright image file with the usual end; else None."""
    check_is_file(path)
    with path.open("rb") as stream, Image.open(stream, "r", FORMATS) as image:
        stream.seek(-len(PNG_END), os.SEEK_END)
        usual = stream.read().endswith((JPEG_END, PNG_END))
        upright = orientation_of(image) == 1
        return (image.height, image.width) if usual and upright else None
