"""How data sets lie on the disk as they are downloaded: folders, files by stem, pairs, lists."""

import os
import re
import unicodedata
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from datasets.matching import match_stems
from SCFNet.errors import InputError
from SCFNet.files import PathLike, check_is_folder, is_hidden
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
LISTS = ("train.txt", "test.txt")
LAYOUT = "a data set is image/*.jpg, mask/*.png and, optionally, train.txt or test.txt"
PHOTOS_LAYOUT = "a set without masks is a folder of photos, at any depth"
MASK_NAME = re.compile(  # of a file beside its photo
    rf"(?P<photo>.*[^/])(?P<mark>[-_ .])(?P<word>{'|'.join(MASKS)})", re.IGNORECASE
)
MASK_FIRST = re.compile(
    rf"(?P<folder>(?:.*/)?)(?P<word>{'|'.join(MASKS)})(?P<mark>[-_ .])(?P<name>[^/]+)",
    re.IGNORECASE,
)
PHOTO_WORDS = (*IMAGES, "sat")  # what may stand for the mask's word in a photo's name


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
    'wedding-images' or 'labels' is one of several. Masks beside their photos are none.
    """
    folder, without = root, None
    with suppress(InputError):  # of folders that are several albums, or hold no masks
        image_folder = find_folder(root, IMAGES)
        if image_folder and image_folder.name.lower() in ALBUM:
            folder = image_folder
        layout = find_layout(root)
        mask_folder = find_folder(root, MASKS)
        if mask_folder and layout.partners:
            folder, without = image_folder or root, mask_folder
    found = _one_folder(folder, without)
    left_out = f"{len(found.masks)} masks ({found.taken}) are left out" if found.masks else ""
    return found._replace(root=root, masks={}, partners={}, taken=left_out, in_part=False)


def is_called(folder: Path, kind: Sequence[str]) -> bool:
    """Return whether a folder has a name of `kind`, IMAGES or MASKS: in any case, with anything
    before it ('DUTS-TR-Image'), and with words of BEHIND after it ('gt_aug').
    """
    words = _words(folder)
    both = not {*words}.isdisjoint(IMAGES) and not {*words}.isdisjoint(MASKS)
    return words[-1] in kind and not both  # 'Imgs_GT' holds both


def find_folder(root: Path, kind: Sequence[str]) -> Optional[Path]:
    """Find the folder in `root` that has a name of `kind`, IMAGES or MASKS; None if there is none.

    Of several the one that has images, the shorter, then the earlier name counts: `mask` before
    `gt` before `gt_aug`. Raises InputError if none is first: `DUTS-TR-Image` and `DUTS-TE-Image`.
    """
    check_is_folder(root, LAYOUT)
    folders = [path for path in root.iterdir() if path.is_dir() and not is_hidden(path.name)]
    found = [path for path in folders if is_called(path, kind)]
    with_images = [path for path in found if next(_image_files(path), None)]
    found = with_images or [path for path in found if path.name.lower() in PLAIN]
    rank = {path: (len(_words(path)), kind.index(_words(path)[-1])) for path in found}
    if not found:
        return None
    best = [path for path in found if rank[path] == min(rank.values())]
    exact = [path for path in best if path.name in kind]
    if len(best) > 1 and len(exact) != 1:
        names = " and ".join(sorted(path.name for path in best))
        raise InputError(f"{root}: has {names}: name a folder with one of them")
    return (exact or best)[0]


def files_by_stem(
    folder: Path, without: Optional[Path] = None
) -> Tuple[Dict[str, Path], List[str]]:
    """Find every image file below `folder`, at any depth, by its path there without the suffix, in
    Unicode's form NFC; and the faults, one for each second file of a stem.

    What lies in hidden folders, or in the folder `without`, does not count.
    """
    found: Dict[str, Path] = {}
    faults = []
    for path in _image_files(folder, without):
        if found.setdefault(_stem_in(folder, path), path) != path:
            faults.append(f"{path} has the stem of another file")
    return found, faults


def _one_folder(folder: Path, without: Optional[Path] = None) -> Layout:
    """Find photos and masks in one folder: `x.jpg` has `x.png`, `x_mask.png` or `mask_x.png`."""
    files: Dict[str, List[Path]] = {}
    for path in _image_files(folder, without):
        files.setdefault(_stem_in(folder, path), []).append(path)
    images: Dict[str, Path] = {}
    masks: Dict[str, Path] = {}
    patterns, faults = [], []
    for stem, (path, *others) in files.items():
        named = MASK_NAME.fullmatch(stem)
        photo = named and next(filter(files.__contains__, _photos_of(named)), None)
        if named and photo and not others:
            masks[photo] = path
            patterns.append(f"*{named['mark']}{named['word']}")
            continue
        named = MASK_FIRST.fullmatch(stem)
        photo = named and named["folder"] + named["name"]
        if named and photo in files and path.suffix.lower() in LOSSLESS and not others:
            masks[photo] = path
            patterns.append(f"{named['word']}{named['mark']}*")
            continue
        twins = [twin for twin in (path, *others) if twin.suffix.lower() in LOSSLESS]
        if len(others) == len(twins) == 1:
            masks[stem] = twins[0]
            patterns.append("*" + twins[0].suffix)
            path = path if path != twins[0] else others[0]
        else:
            faults += [f"{other} has the stem of another file" for other in others]
        images[stem] = path
    taken = " and ".join(sorted(set(patterns)))
    return Layout(folder, images, masks, {stem: stem for stem in masks}, taken, True, faults)


def find_name(folder: Path, name: str) -> Optional[Path]:
    """Find the file or folder of a name in `folder`, in any case; None if there is none."""
    same = sorted(path for path in folder.iterdir() if path.name.lower() == name)
    return folder / name if folder / name in same else next(iter(same), None)


def find_list(root: Path, split: str) -> Optional[Path]:
    """Find the list of `split` ('train' or 'test') in `root`, else the other one, else None."""
    paths = (find_name(root, name) for name in (f"{split}.txt", *LISTS))
    return next(filter(None, paths), None)


def read_list(path: PathLike, layout: Layout) -> List[Tuple[str, Optional[str]]]:
    """Return the stems of the photos that a list names, line by line, each with its mask's stem.

    A line is a stem, or a path with folder or suffix, and may go on with that of the mask in a
    second column. Backslashes are slashes. UTF-8 and UTF-16 are read, with or without a byte-order
    mark. Raises InputError for what is neither, or no file.
    """
    if not Path(path).is_file():  # a link to nothing, or a pipe, which might never end
        raise InputError(f"{path}: is not a file")
    try:
        text = unicodedata.normalize("NFC", _decode(Path(path).read_bytes()))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 or UTF-16 text: {error}") from error
    images, masks, partners = layout.images, layout.masks, layout.partners
    found = []
    for line in filter(None, map(str.strip, text.splitlines())):
        first, second = line, line
        if _stem(line, images) is None:
            columns = line.split(next((mark for mark in "\t,;" if mark in line), None))
            first, second = columns[0].strip(), columns[min(1, len(columns) - 1)].strip()
        stem = _stem(first, images) or _stem(second, masks) or _bare(line)
        found.append((stem, _stem(second, masks) or partners.get(stem)))
    return found


def _words(folder: Path) -> List[str]:
    words = re.split(r"[-_ .]+", folder.name.lower())
    while len(words) > 1 and words[-1] in BEHIND:
        words.pop()
    return words


def _stem_in(folder: Path, path: Path) -> str:
    """Return a file's path in `folder`, without the suffix, in NFC: macOS and others differ."""
    return unicodedata.normalize("NFC", path.relative_to(folder).with_suffix("").as_posix())


def _image_files(folder: Path, without: Optional[Path] = None) -> Iterator[Path]:
    """Walk the image files below `folder`, sorted; hidden ones and those in `without` left out."""
    for path in _walk(folder):
        inside = without and without in path.parents
        if path.suffix.lower() in IMAGE_SUFFIXES and not is_hidden(path.name) and not inside:
            yield path


def _walk(folder: Path) -> Iterator[Path]:
    """Walk the files below `folder`, sorted; through links, but not to a folder above them."""
    for parent, folders, names in os.walk(folder, followlinks=True):
        here = os.path.realpath(parent)
        folders[:] = sorted(
            name
            for name in folders
            if not is_hidden(name)
            and not (here + os.sep).startswith(os.path.realpath(Path(parent, name)) + os.sep)
        )
        yield from (Path(parent, name) for name in sorted(names))


def _only_other(root: Path, mask_folder: Path) -> Optional[Path]:
    """Find the folder beside the masks' that has photos, which are no maps, edges or depths by
    their suffixes; None if several have, or `root` itself.
    """
    files = (
        path for path in _image_files(root, mask_folder) if path.suffix.lower() not in LOSSLESS
    )
    places = {path.relative_to(root).parents[-2:-1] for path in files}
    return root / places.pop()[0] if len(places) == 1 and () not in places else None


def _photos_of(mask: "re.Match[str]") -> Iterator[str]:
    """Yield the names that the photo of a mask beside it may have: 'x' or 'x_rgb' of 'x_mask'."""
    yield mask["photo"]
    yield from (f"{mask['photo']}{mask['mark']}{word}" for word in PHOTO_WORDS)


def _decode(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16")
    if b"\0" in data[:2]:
        return data.decode("utf-16-be" if data[0] == 0 else "utf-16-le")
    return data.decode("utf-8-sig")


def _stem(text: str, known: Dict[str, Path]) -> Optional[str]:
    """Find the stem among `known` that a list means by `text`; None if it is not there."""
    bare = _bare(text)
    parts = bare.split("/")
    elsewhere = not parts[0] or parts[0].endswith(":")  # an absolute path, of another machine
    in_folders = (
        "/".join(parts[i + 1 :])
        for i, name in enumerate(parts)
        if elsewhere or is_called(Path(name), (*IMAGES, *MASKS))
    )
    return next((stem for stem in (text, bare, *in_folders) if stem in known), None)


def _bare(text: str) -> str:
    """Give `text` slashes, and take the suffix of an image file off."""
    path = PurePosixPath(text.strip("\"'").replace("\\", "/"))
    return str(path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path)
