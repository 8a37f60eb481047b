"""A data set's folder: which photos and masks belong to it, whether they are whole, reading."""

import os
from pathlib import Path, PurePosixPath
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from datasets import jpeg
from datasets.decoding import FORMATS, IMAGE_SUFFIXES
from datasets.files import InputError, PathLike, first_few
from datasets.images import read_image
from datasets.masks import PNG_END, read_map_uint8, read_mask_uint8

IMAGE_FOLDERS = ("image", "images")
MASK_FOLDERS = ("mask", "masks")
LISTS = ("train.txt", "test.txt")
LAYOUT = "a data set is image/*.jpg, mask/*.png and, optionally, train.txt or test.txt"


class Sample(NamedTuple):
    """One photo of a data set: `stem` is its path in the image folder, without the suffix.

    `is_map`: the mask is a network's map, which is soft and may be of another size than the photo.
    """

    stem: str
    image: Path
    mask: Optional[Path]
    is_map: bool = False


def list_pairs(root: PathLike, split: str = "train", labelled: bool = True) -> List[Sample]:
    """The samples of the data set in folder `root`, sorted as its list is, else by name.

    The photos are those of `root`/image (or images; an unlabelled set may also lie in `root`
    itself), at any depth, and the masks those of `root`/mask (or masks), of the same stems. The
    list is `root`/train.txt or test.txt, that of `split` ('train' or 'test') if there are both:
    one stem a line, where blank lines, repeated stems and suffixes do not matter. Without a list
    all images count. With `labelled` false masks are neither looked for nor returned.

    Raises InputError, which lists the first ten faults and counts them: a listed image that is
    missing, an image without mask, a mask without image where there is no list, two files of one
    stem. No file is opened: see `check_files`.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; {LAYOUT}")
    faults: List[str] = []
    images = _files(_folder(root, IMAGE_FOLDERS, optional=not labelled), faults)
    masks = _files(_folder(root, MASK_FOLDERS), faults) if labelled else {}
    listing = _find_list(root, split)
    if listing:
        stems = _read_list(listing, images)
    else:
        stems = sorted(images)
        faults += [f"{masks[stem]} has no image" for stem in sorted(masks.keys() - images.keys())]
    if not stems:
        raise InputError(f"{listing or root}: names no images; {LAYOUT}")
    for stem in stems:
        if stem not in images:
            faults.append(f"{stem} has no image")
        elif labelled and stem not in masks:
            faults.append(f"{images[stem]} has no mask")
    _raise_faults(root, faults)
    return [Sample(stem, images[stem], masks.get(stem)) for stem in stems]


def list_masks(root: PathLike, split: str = "test") -> Dict[str, Path]:
    """The masks by stem of the data set in folder `root`, as `list_pairs` finds them, but without
    a look at its photos. Raises InputError as it does.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; {LAYOUT}")
    masks = list_folder(_folder(root, MASK_FOLDERS))
    listing = _find_list(root, split)
    stems = _read_list(listing, masks) if listing else list(masks)
    _raise_faults(root, [f"{stem} has no mask" for stem in stems if stem not in masks])
    return {stem: masks[stem] for stem in stems}


def list_folder(folder: PathLike) -> Dict[str, Path]:
    """The image files below `folder`, at any depth, by stem. Raises InputError if there are none,
    or two of one stem.
    """
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder")
    faults: List[str] = []
    files = _files(Path(folder), faults)
    _raise_faults(Path(folder), faults)
    if not files:
        raise InputError(f"{folder}: there are no image files in this folder")
    return files


def check_files(samples: Sequence[Sample]) -> None:
    """Check that each file of `samples` opens, is whole, and that its mask has the photo's size.

    Raises InputError, which lists the first ten faults and counts them; see `find_faults`.
    """
    _raise_faults(samples[0].image.parent, [fault for _, fault in find_faults(samples)])


def find_faults(samples: Sequence[Sample]) -> List[Tuple[Sample, str]]:
    """The samples with a file that does not open or is not whole, or with a mask of another size,
    and what is wrong. Only headers and ends are read; what looks odd there is decoded.
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
    """The photo, RGB uint8 [H, W, 3], and the mask, float32 [H, W] in [0, 1], or None.

    Raises InputError for a file that cannot be read, or a mask of another size than its photo,
    where that is not meant to be.
    """
    image, mask = read_pair_uint8(sample)
    return image, None if mask is None else mask / np.float32(255)


def read_pair_uint8(sample: Sample) -> Tuple[np.ndarray, Optional[np.ndarray]]:
    """`read_pair` with the mask as uint8 [H, W], 0 to 255, whatever its coding: for speed."""
    image = read_image(sample.image)
    if sample.mask is None:
        return image, None
    if sample.is_map:
        return image, read_map_uint8(sample.mask)
    mask = read_mask_uint8(sample.mask)
    if mask.shape != image.shape[:2]:
        (height, width), (rows, columns) = image.shape[:2], mask.shape
        raise InputError(
            f"{sample.mask}: is {columns}x{rows}, but its image {sample.image} is {width}x{height}"
        )
    return image, mask


def _folder(root: Path, names: Tuple[str, ...], optional: bool = False) -> Path:
    """The folder of `root` that is called one of `names`; where there is none, `root` itself if
    that is allowed."""
    for name in names:
        if (root / name).is_dir():
            return root / name
    if optional:
        return root
    raise InputError(f"{root}: has no folder {names[0]}/; {LAYOUT}")


def _find_list(root: Path, split: str) -> Optional[Path]:
    """The list of `split`, else the other one, else None."""
    paths = [root / name for name in (f"{split}.txt", *LISTS)]
    return next((path for path in paths if path.is_file()), None)


def _files(folder: Path, faults: List[str]) -> Dict[str, Path]:
    """Every image file below `folder` by its stem; a second file of a stem is added to `faults`."""
    found: Dict[str, Path] = {}
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            if path.suffix.lower() not in IMAGE_SUFFIXES or name.startswith("."):
                continue
            stem = path.relative_to(folder).with_suffix("").as_posix()
            if found.setdefault(stem, path) != path:
                faults.append(f"{path} has the stem of another file")
    return found


def _read_list(path: Path, images: Dict[str, Path]) -> List[str]:
    """The stems that a list names, each once, in its order."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text: {error}") from error
    stems = []
    for line in filter(None, map(str.strip, lines)):
        path = PurePosixPath(line)
        named_by_file = line not in images and path.suffix.lower() in IMAGE_SUFFIXES
        stems.append(str(path.with_suffix("")) if named_by_file else line)
    return list(dict.fromkeys(stems))


def _raise_faults(place: Path, faults: List[str]) -> None:
    if faults:
        raise InputError(f"{place}: {len(faults)} faults: {first_few(faults, 10, '; ')}")


def _looks_whole(sample: Sample) -> bool:
    """Whether header and end of photo and map are as they should be, and the mask can be read and
    has the photo's size.
    """
    try:
        size = _size_if_whole(sample.image)
        if sample.mask is None or size is None:
            return size is not None
        if sample.is_map:
            return _size_if_whole(sample.mask) is not None
        return read_mask_uint8(sample.mask).shape == size
    except Exception:  # the fault is for the reader to tell
        return False


def _size_if_whole(path: Path) -> Optional[Tuple[int, int]]:
    """Height and width of an upright image file with the usual end; else None."""
    with path.open("rb") as stream, Image.open(stream, "r", FORMATS) as image:
        stream.seek(-len(PNG_END), os.SEEK_END)
        usual = stream.read().endswith((jpeg.END, PNG_END))
        upright = image.getexif().get(jpeg.ORIENTATION, 1) == 1
        return (image.height, image.width) if usual and upright else None
