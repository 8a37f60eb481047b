"""Which format an image file has: told by its first bytes, never by its name."""

import contextlib
import io
from typing import Any, List, Set, Tuple

from PIL import features
from PIL.ExifTags import Base

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"),
    *(".avif", ".heic", ".heif"),
)
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")  # what Pillow may try, in this order
AVIF_BRANDS = {b"avif", b"avis"}
HEIC_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}
START_BYTES = 512  # of a file tell its format

RAW_STARTS = (b"FUJIFILMCCD-RAW", b"IIU\0", b"IIRO", b"IIRS", b"MMOR", b"FOVb", b"\0MRM")
CR2, CR3 = b"CR", b"crx "
SENSOR = (32803, 34892)  # photometric: a colour filter's mosaic, and linear raw
MOST_PICTURES = 20  # that are looked at
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

AVIF = "is an AVIF photo, which needs a newer Pillow: pip install --upgrade Pillow"
HEIC = "is a HEIC photo, which needs another package: pip install pillow-heif"
DAMAGED = "cannot be read as an image: damaged, or of a kind that its package does not know"
OTHER = f"is not an image ({', '.join(FORMATS)}, AVIF and HEIC can be read)"


def formats_of(data: bytes) -> Tuple[List[str], str]:
    """Return the names of Pillow's formats to try, and what to say if none of them fits. `data` are
    a file's first bytes, START_BYTES of them, or more.

    Of MP4's family, to which AVIF and HEIC belong, the compatible brands decide; HEIC is tried if
    pillow-heif is installed.
    """
    brands = _brands(data)
    if brands & AVIF_BRANDS:
        return (["AVIF"], DAMAGED) if features.check("avif") else ([], AVIF)
    if brands & HEIC_BRANDS:
        with contextlib.suppress(ImportError):
            import pillow_heif

            pillow_heif.register_heif_opener()
            return ["HEIF"], DAMAGED
        return [], HEIC
    return list(FORMATS), OTHER


def tiff_pictures(data: bytes) -> List[Any]:
    """Return the tags, by number, of a TIFF's pictures: the first, those in it, those behind it; of
    any other file none, and of a damaged one those before the damage.
    """
    if not data.startswith(TIFF_STARTS):
        return []
    from PIL import TiffImagePlugin  # 14 ms that no other file needs

    pictures: List[Any] = []
    header, stream = data[: 16 if b"+" in data[:4] else 8], io.BytesIO(data)
    places = [TiffImagePlugin.ImageFileDirectory_v2(header).next]
    with contextlib.suppress(Exception):  # the fault is for Pillow to tell
        while places and len(pictures) < MOST_PICTURES:
            tags = TiffImagePlugin.ImageFileDirectory_v2(header)
            stream.seek(places.pop(0))
            tags.load(stream)
            inside = tags.get(Base.SubIFDs, ())
            places += inside if isinstance(inside, tuple) else [inside]
            places += [tags.next] if tags.next else []
            pictures.append(tags)
    return pictures


def is_raw(data: bytes, pictures: List[Any]) -> bool:
    """Return whether a file is a camera's raw one, of which Pillow would read a small preview: by
    its first bytes, or because `pictures` has the sensor's, before its colours are made.
    """
    if data.startswith(RAW_STARTS) or data[8:10] == CR2 or CR3 in _brands(data):
        return True
    if pictures and Base.DNGVersion in pictures[0]:
        return True
    return any(picture.get(Base.PhotometricInterpretation) in SENSOR for picture in pictures)


def _brands(data: bytes) -> Set[bytes]:
    """Return the major and the compatible brands of a file of MP4's family; else nothing."""
    if data[4:8] != b"ftyp":
        return set()
    end = min(max(int.from_bytes(data[:4], "big"), 12), START_BYTES)
    return {data[at : at + 4] for at in range(8, end, 4)}
