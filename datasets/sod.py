"""A data set's folder: which photos and masks belong to it, whether they are whole, reading."""

import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from tqdm import tqdm

from datasets.layout import LAYOUT, PHOTOS_LAYOUT, Layout, files_by_stem, find_layout, find_photos
from datasets.lists import find_list, read_list
from datasets.maps import check_not_turned, join_maps, read_map
from datasets.masks import PNG_END, decode_mask, read_mask
from SCFNet.errors import InputError
from SCFNet.files import PathLike, check_is_folder, first_few
from SCFNet.parallel import in_parallel
from SCFNet.photos.damage import has_hole
from SCFNet.photos.opening import header_of
from SCFNet.photos.orientation import orientation_of
from SCFNet.photos.reading import read_image

JPEG_END = b"\xff\xd9"

Say = Callable[[str], object]  # is called with a line for the person who runs a tool
Lines = List[Tuple[str, Optional[str]]]  # the stems of photos and of their masks


class Sample(NamedTuple):
    """One photo of a data set: `stem` is its path in the image folder, without the suffix.

    `white` is given if the mask is a network's map, which is soft and may be of another size than
    the photo: the number that stands for 1 in it, see `maps.find_whites`. `others` are the maps of
    further networks, with their whites, see `maps.join_maps`.
    """

    stem: str
    image: Path
    mask: Optional[Path]
    white: Optional[float] = None
    others: Tuple[Tuple[Path, float], ...] = ()

    @property
    def is_map(self) -> bool:
        """Whether the mask is a network's map."""
        return self.white is not None

    @property
    def maps(self) -> List[Tuple[Path, float]]:
        """The networks' maps, each with its white; none if there is a mask, or nothing."""
        if self.mask is None or self.white is None:
            return []
        return [(self.mask, self.white), *self.others]


def list_pairs(
    root: PathLike, split: str = "train", labelled: bool = True, say: Optional[Say] = None
) -> List[Sample]:
    """List the samples of the data set in folder `root`, in the order of its list, else by name.

    `layout.find_layout` says how photos and masks may lie there, and `lists.read_list` how a list
    may be written: `root`/train.txt or test.txt, that of `split` ('train' or 'test') if there are
    both. Without a list all images count. A photo that a list names twice is two samples, of the
    split 'test' one. With `labelled` false masks are not returned, and all may lie in `root`.

    `say` gets a line about what was taken, if that is anything but image/ and mask/. Raises
    InputError, which lists the first ten faults and counts them: a listed image that is missing, an
    image without mask, a mask without image if there is no list, two files of one stem. No file is
    opened: see `check_files`.
    """
    root, expected = Path(root), LAYOUT if labelled else PHOTOS_LAYOUT
    check_is_folder(root, expected)
    layout = find_layout(root, split) if labelled else find_photos(root)
    listing = find_list(layout.root, split)
    faults, notes = list(layout.faults), []
    if listing:
        lines = read_list(listing, layout)
    else:
        lines = [(stem, layout.partners.get(stem)) for stem in sorted(layout.images)]
        strays = layout.masks.keys() - set(layout.partners.values())
        faults += [f"{layout.masks[stem]} has no image" for stem in sorted(strays)]
        if layout.in_part:
            left_out = len(lines) - len(layout.partners)
            lines = [(stem, mask) for stem, mask in lines if mask]
            notes += [f"{left_out} photos without a mask are left out"] if left_out else []
    if not lines:
        raise InputError(f"{listing or layout.root}: names no images; {expected}")
    for stem, mask in dict(lines).items():
        if stem not in layout.images:
            faults.append(f"{stem} has no image")
        elif labelled and mask not in layout.masks:
            faults.append(f"{layout.images[stem]} has no mask")
    _raise_faults(layout.root, faults)
    notes += _repeats(listing, lines, once=split == "test")
    once = dict(lines)
    _say_taken(say, layout, f"{len(once)} pairs of " if labelled else "", notes)
    return [
        Sample(stem, layout.images[stem], layout.masks[mask] if labelled and mask else None)
        for stem, mask in (once.items() if split == "test" else lines)
    ]


def list_masks(root: PathLike, split: str = "test", say: Optional[Say] = None) -> Dict[str, Path]:
    """Return the masks of the data set in folder `root` by the stems of their photos, which need
    not be there, as `list_pairs` finds them. Raises InputError as it does.
    """
    layout = find_layout(Path(root), split)
    _raise_faults(layout.root, layout.faults)
    listing = find_list(layout.root, split)
    photo_of = {mask: stem for stem, mask in layout.partners.items()}
    lines: Lines = [(photo_of.get(stem, stem), stem) for stem in layout.masks]
    if listing:
        lines = read_list(listing, layout)
    _raise_faults(layout.root, [f"{stem} has no mask" for stem, mask in lines if not mask])
    if not lines:
        raise InputError(f"{layout.root}: has no masks; {LAYOUT}")
    masks = {stem: layout.masks[mask] for stem, mask in lines if mask}
    kind = "pairs" if layout.partners else "masks"
    _say_taken(say, layout, f"{len(masks)} {kind} of ", _repeats(listing, lines, once=True))
    return masks


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


def has_masks(root: PathLike, split: str = "test") -> bool:
    """Return whether the data set in folder `root` has masks."""
    with suppress(InputError):
        return bool(find_layout(Path(root), split).masks)
    return False


class Checked(NamedTuple):
    """The fault of a sample, or whether its mask is empty, is full, and has a void."""

    fault: str = ""
    is_empty: bool = False
    is_full: bool = False
    has_void: bool = False


def check_files(
    samples: Sequence[Sample], skip_unreadable: bool = False, say: Optional[Say] = None
) -> List[Sample]:
    """Return `samples`, after a look whether each file opens, is whole, and fits its photo.

    Masks are read; of photos and maps headers and ends, and what looks odd there is decoded. With
    `skip_unreadable` all is decoded, and what cannot be read is left out. `say` gets a line about
    that, about empty masks, and about a void. Raises InputError, which lists the first ten faults
    and counts them; also if no mask has both an object and a background.
    """
    unique = list(dict.fromkeys(samples))
    results = in_parallel(partial(_check, decode=skip_unreadable), unique)
    bar = tqdm(unique, desc="checking files", leave=False, delay=2, disable=None)
    found = dict(zip(bar, results))
    place = samples[0].image.parent
    faults = [checked.fault for checked in found.values() if checked.fault]
    if faults and (not skip_unreadable or len(faults) == len(unique)):
        way_out = "" if skip_unreadable else " (--skip-unreadable leaves them out)"
        _raise_faults(place, faults, way_out)
    masks = [found[one] for one in unique if one.mask and not one.is_map and not found[one].fault]
    empty = sum(mask.is_empty for mask in masks)
    full = sum(mask.is_full for mask in masks)
    if masks and empty + full == len(masks):
        colours = " or ".join(["black"] * (empty > 0) + ["white"] * (full > 0))
        where = next(sample.mask for sample in unique if sample.mask)
        raise InputError(f"{where.parent}: all {len(masks)} masks are {colours} throughout")
    void = sum(mask.has_void for mask in masks)
    notes = [
        (f"left out {len(faults)} of {len(unique)}: {first_few(faults, 10, '; ')}", faults),
        (f"{empty} of {len(masks)} masks are empty", empty),
        (f"255 is void in {void} of {len(masks)} masks, and counts as background", void),
    ]
    for note, there in notes:
        if there and say:
            say(f"{place}: {note}")
    return [sample for sample in samples if not found[sample].fault]


def read_pair(sample: Sample) -> Tuple[np.ndarray, Optional[np.ndarray]]:
    """Return (RGB uint8 [H, W, 3], mask [H, W] in 0..255 or None).

    A mask is uint8, and its void is background; a network's map, or that of several, is uint8 or
    float32, and may be of another size. Raises InputError for a file that cannot be read, a mask of
    another size than its photo, or a map that lies on its side.
    """
    image = read_image(sample.image)
    if sample.mask is None:
        return image, None
    if sample.is_map:
        maps = [_read_label(path, white, image.shape[:2]) for path, white in sample.maps]
        return image, join_maps(maps) if sample.others else maps[0]
    mask = read_mask(sample.mask, void_is_background=True)
    if mask.shape != image.shape[:2]:
        own, other = (f"{width}x{height}" for height, width in (mask.shape, image.shape[:2]))
        raise InputError(f"{sample.mask}: is {own}, but its image {sample.image} is {other}")
    return image, mask


def _read_label(path: Path, white: float, photo_shape: Tuple[int, ...]) -> np.ndarray:
    """Return a map [H, W], uint8 or float32 in 0..255, of a photo of `photo_shape`."""
    saliency = read_map(path, white)
    check_not_turned(path, saliency.shape, photo_shape)
    if saliency.dtype == np.uint8:
        return saliency
    largest = 65535 if saliency.dtype == np.uint16 else 1
    return np.clip(saliency * (255 / largest), 0, 255).astype("float32")


def _repeats(listing: Optional[Path], lines: Lines, once: bool) -> List[str]:
    """Return a note about the lines of a list that repeat others, or none."""
    repeats = len(lines) - len(set(lines))
    if not repeats or not listing:
        return []
    meaning = "each photo counts once" if once else f"{len(lines)} samples"
    return [f"{repeats} lines of {listing.name} repeat others: {meaning}"]


def _say_taken(say: Optional[Say], layout: Layout, count: str, notes: List[str]) -> None:
    """Say how many were taken of a layout, if it is not the usual one, and the `notes`."""
    if layout.taken:
        notes = [count + layout.taken, *notes]
    if notes and say:
        say(f"{layout.root}: {', '.join(notes)}")


def _raise_faults(place: Path, faults: Sequence[str], way_out: str = "") -> None:
    if faults:
        raise InputError(f"{place}: {len(faults)} faults{way_out}: {first_few(faults, 10, '; ')}")


def _check(sample: Sample, decode: bool) -> Checked:
    """Look at the files of a sample; `decode` them, even if they look whole."""
    try:
        if decode and has_hole(sample.image.read_bytes()):
            return Checked(f"{sample.image}: damaged: a part of the picture is zeros")
        size = None if decode else _mode_and_size(sample.image)[1]
        if sample.mask is None or sample.is_map:
            if size is None or not all(_is_plain_map(path, size) for path, _ in sample.maps):
                read_pair(sample)
            return Checked()
        mask, has_void = decode_mask(sample.mask)
        if mask.shape != size:
            read_pair(sample)
        return Checked("", bool(mask.max() < 128), bool(mask.min() > 127), has_void)
    except (InputError, OSError) as error:
        return Checked(str(error))


def _mode_and_size(path: Path) -> Tuple[str, Optional[Tuple[int, int]]]:
    """Return Pillow's mode, and height and width, of an upright image file with the usual end; of
    any other "" and None.
    """
    with suppress(Exception):  # the fault is for the reader to tell
        with header_of(path) as image, path.open("rb") as stream:
            stream.seek(-len(PNG_END), os.SEEK_END)
            if stream.read().endswith((JPEG_END, PNG_END)) and orientation_of(image) == 1:
                return image.mode, (image.height, image.width)
    return "", None


def _is_plain_map(path: Path, size: Tuple[int, int]) -> bool:
    """Return whether a map looks whole, is grey, and stands as its photo of `size` [H, W]."""
    mode, own_size = _mode_and_size(path)
    if own_size is None:
        return False
    check_not_turned(path, own_size, size)
    return mode in ("1", "L", "F") or mode.startswith("I")
