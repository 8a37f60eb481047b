"""How the folders and files of a data set lie on the disk as it is downloaded."""

import os
import re
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import Collection, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from datasets.matching import match_stems
from SCFNet.errors import InputError
from SCFNet.files import check_is_folder, is_hidden
from SCFNet.photos.formats import IMAGE_SUFFIXES

ALBUM = ("image", "images", "img", "imgs", "im")  # beside which others do not count
IMAGES = (*ALBUM, "jpegimages", "photo", "photos", "rgb")
MASKS = (
    *("mask", "masks", "gt", "gts", "truth", "groundtruth", "pixelwisegt"),
    *("segmentationclass", "segmentationclasspng", "segmentationobject"),
    *("segmentation", "segmentations", "seg", "label", "labels", "annotation", "annotations"),
    *("matte", "mattes", "alpha"),
)
BEHIND = ("aug", "new", "png", "jpg")  # words that may follow these: 'gt_aug', 'GT-new-PNG'
PLAIN = ("image", "images", "mask", "masks")  # of which nothing need be said
VOC = "jpegimages"  # most of whose photos have no mask
LOSSLESS = (".png", ".bmp", ".gif", ".tif", ".tiff")  # what a mask is, beside a photo of its name
LAYOUT = "a data set is image/*.jpg, mask/*.png and, optionally, train.txt or test.txt"
PHOTOS_LAYOUT = "a set without masks is a folder of photos, at any depth"
PHOTO_WORDS = (*IMAGES, "sat")  # what may stand for the mask's word in a photo's name
WORD, MARK = f"({'|'.join(MASKS)})", "([-_ .])"
MASK_LAST = re.compile(f"(.*[^/]){MARK}{WORD}", re.IGNORECASE)  # 'x_mask', beside its photo 'x'
MASK_FIRST = re.compile(f"((?:.*/)?){WORD}{MARK}([^/]+)", re.IGNORECASE)  # 'mask_x'


class Layout(NamedTuple):
    """A data set's files by stem, and the mask's stem for each photo's that has one.

    `root` is where its list is. `taken` says where its files are, '' if that is image/ and mask/.
    With `in_part` photos without a mask are no fault.
    """

    root: Path
    images: Dict[str, Path]
    masks: Dict[str, Path]
    partners: Dict[str, str]
    taken: str
    in_part: bool
    faults: List[str]


def find_layout(root: Path, split: str = "train") -> Layout:
    """Find the photos and the masks of the data set in `root`, or in its folder of that `split`.

    They are in two folders of it, as `find_folder` finds them (if only masks have such a folder,
    photos are in the one other that has JPEGs), of the same names, or of names that
    one suffix or prefix tells apart (`match_stems`); or together in one folder: `x.jpg` beside
    `x.png`, `x_mask.png` or `mask_x.png`. Raises InputError as `find_folder` does, and if there are
    no masks.
    """
    image_folder, mask_folder = find_folder(root, IMAGES), find_folder(root, MASKS)
    part = find_name(root, split)
    if not image_folder and not mask_folder and part and part.is_dir():
        return find_layout(part, split)
    if not mask_folder:
        found = _one_folder(image_folder or root)
        if not found.masks:
            lacking = MASKS[0] if image_folder or found.images else IMAGES[0]
            raise InputError(f"{root}: has no folder {lacking}/; {LAYOUT}")
        place = f"{image_folder.name}/" if image_folder else "one folder"
        return found._replace(root=root, taken=f"{place}, masks are {found.taken}")
    masks, faults = files_by_stem(mask_folder)
    image_folder = image_folder or _only_other(root, mask_folder)
    if image_folder:
        images, more_faults = files_by_stem(image_folder)
        faults += more_faults
    else:
        images = {_stem_in(root, path): path for path in _image_files(root) if path.parent == root}
    partners, pattern = match_stems(images, masks)
    names = [image_folder.name if image_folder else ".", mask_folder.name]
    taken = f"{names[0]}/ and {names[1]}/" + (f", masks are {pattern}" if pattern else "")
    if not pattern and set(names) <= set(PLAIN):
        taken = ""
    return Layout(root, images, masks, partners, taken, names[0].lower() == VOC, faults)


def find_photos(root: Path) -> Layout:
    """Find the photos of a set that needs no masks.

    They are in `root` itself, unless it has a folder image/ or is a set with masks. An album called
    'wedding-images' or 'labels' is one of several. Masks beside their photos are left out.
    """
    folder, without = root, None
    with suppress(InputError):  # of folders that are several albums, or hold no masks
        image_folder = find_folder(root, IMAGES)
        if image_folder and image_folder.name.lower() in ALBUM:
            folder = image_folder
        mask_folder = find_folder(root, MASKS)
        if mask_folder and find_layout(root).partners:
            folder, without = image_folder or root, mask_folder
    found = _one_folder(folder, without)
    left_out = f"{len(found.masks)} masks ({found.taken}) are left out" if found.masks else ""
    return found._replace(root=root, masks={}, partners={}, taken=left_out, in_part=False)


def find_folder(root: Path, kind: Sequence[str]) -> Optional[Path]:
    """Find the folder in `root` that has a name of `kind`, IMAGES or MASKS; None if there is none.

    Of several the one that has images, the shorter, then the earlier name counts: `mask` before
    `gt` before `gt_aug`. Raises InputError if none is first: `DUTS-TR-Image` and `DUTS-TE-Image`.
    """
    check_is_folder(root, LAYOUT)

    def rank(folder: Path) -> Tuple[int, int]:
        words = _words(folder.name)
        return len(words), kind.index(words[-1])

    folders = [path for path in root.iterdir() if path.is_dir() and not is_hidden(path.name)]
    named = [path for path in folders if is_called(path.name, kind)]
    found = [path for path in named if next(_image_files(path), None)]
    found = found or [path for path in named if path.name.lower() in PLAIN]
    best = [path for path in found if rank(path) == min(map(rank, found))]
    exact = [path for path in best if path.name in kind]
    if len(best) > 1 and len(exact) != 1:
        names = " and ".join(sorted(path.name for path in best))
        raise InputError(f"{root}: has {names}: name a folder with one of them")
    return next(iter(exact or best), None)


def is_called(name: str, kind: Sequence[str]) -> bool:
    """Return whether a folder's name is of `kind`, IMAGES or MASKS: in any case, with anything
    before it ('DUTS-TR-Image'), and with words of BEHIND after it ('gt_aug').
    """
    words = _words(name)
    both = not {*words}.isdisjoint(IMAGES) and not {*words}.isdisjoint(MASKS)
    return words[-1] in kind and not both  # 'Imgs_GT' holds both


def find_name(folder: Path, name: str) -> Optional[Path]:
    """Find the file or folder of a name in `folder`, in any case; None if there is none."""
    same = sorted(path for path in folder.iterdir() if path.name.lower() == name)
    return folder / name if folder / name in same else next(iter(same), None)


def files_by_stem(folder: Path) -> Tuple[Dict[str, Path], List[str]]:
    """Find every image file below `folder`, at any depth, by its path there without the suffix, in
    Unicode's form NFC; and the faults, one for each second file of a stem.

    What lies in hidden folders does not count.
    """
    groups = _grouped(folder)
    faults = [fault for same in groups.values() for fault in _same_stem(same[1:])]
    return {stem: same[0] for stem, same in groups.items()}, faults


def _one_folder(folder: Path, without: Optional[Path] = None) -> Layout:
    """Find photos and masks in one folder: `x.jpg` has `x.png`, `x_mask.png` or `mask_x.png`.

    `taken` is by which patterns. What lies in the folder `without` does not count.
    """
    images: Dict[str, Path] = {}
    masks: Dict[str, Path] = {}
    patterns, faults = set(), []
    groups = _grouped(folder, without)
    for stem, (path, *others) in groups.items():
        photo, pattern = ("", "") if others else _photo_beside(stem, path, groups)
        if photo:
            masks[photo] = path
            patterns.add(pattern)
            continue
        twins = [twin for twin in (path, *others) if twin.suffix.lower() in LOSSLESS]
        if len(others) == len(twins) == 1:
            masks[stem] = twins[0]
            patterns.add("*" + twins[0].suffix)
            path = path if path != twins[0] else others[0]
        else:
            faults += _same_stem(others)
        images[stem] = path
    taken = " and ".join(sorted(patterns))
    return Layout(folder, images, masks, {stem: stem for stem in masks}, taken, True, faults)


def _photo_beside(mask: str, path: Path, stems: Collection[str]) -> Tuple[str, str]:
    """Return which of `stems` is the photo of a mask beside it, 'x' or 'x_rgb' of 'x_mask', 'x' of
    'mask_x', and the pattern of the mask's name; '' and '' if it is no mask.
    """
    candidates = []
    last, first = MASK_LAST.fullmatch(mask), MASK_FIRST.fullmatch(mask)
    if last:
        photo, mark, word = last.groups()
        names = (photo, *(f"{photo}{mark}{other}" for other in PHOTO_WORDS))
        candidates += [(name, f"*{mark}{word}") for name in names]
    if first and path.suffix.lower() in LOSSLESS:
        folder, word, mark, name = first.groups()
        candidates.append((folder + name, f"{word}{mark}*"))
    return next((found for found in candidates if found[0] in stems), ("", ""))


def _words(name: str) -> List[str]:
    words = re.split(r"[-_ .]+", name.lower())
    while len(words) > 1 and words[-1] in BEHIND:
        words.pop()
    return words


def _stem_in(folder: Path, path: Path) -> str:
    """Return a file's path in `folder`, without the suffix, in NFC: macOS and others differ."""
    return unicodedata.normalize("NFC", path.relative_to(folder).with_suffix("").as_posix())


def _grouped(folder: Path, without: Optional[Path] = None) -> Dict[str, List[Path]]:
    """Group the image files below `folder` by stem."""
    groups: Dict[str, List[Path]] = {}
    for path in _image_files(folder, without):
        groups.setdefault(_stem_in(folder, path), []).append(path)
    return groups


def _same_stem(paths: Sequence[Path]) -> List[str]:
    return [f"{path} has the stem of another file" for path in paths]


def _image_files(folder: Path, without: Optional[Path] = None) -> Iterator[Path]:
    """Walk the image files below `folder`, sorted, through links, but not to a folder above them;
    hidden ones and those in the folder `without` are left out.
    """
    for parent, folders, names in os.walk(folder, followlinks=True):
        here = os.path.realpath(parent) + os.sep
        folders[:] = sorted(
            name
            for name in folders
            if not is_hidden(name)
            and Path(parent, name) != without
            and not here.startswith(os.path.realpath(Path(parent, name)) + os.sep)
        )
        for path in (Path(parent, name) for name in sorted(names)):
            if path.suffix.lower() in IMAGE_SUFFIXES and not is_hidden(path.name):
                yield path


def _only_other(root: Path, mask_folder: Path) -> Optional[Path]:
    """Find the folder beside the masks' that has photos, which are no maps, edges or depths by
    their suffixes; None if several have, or `root` itself.
    """
    photos = (p for p in _image_files(root, mask_folder) if p.suffix.lower() not in LOSSLESS)
    places = {path.relative_to(root).parents[-2:-1] for path in photos}
    return root / places.pop()[0] if len(places) == 1 and () not in places else None
