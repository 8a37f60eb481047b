"""Sound photos that are easily refused or read wrong, and what is named instead of read."""

import io
import struct
import warnings
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from datasets.maps import read_map
from SCFNet.checkpoint import load_checkpoint
from SCFNet.errors import InputError, is_memory_short
from SCFNet.photos import jpeg, opening
from SCFNet.photos.opening import count_pictures
from SCFNet.photos.reading import read_image
from tests.colours import TO_2020, hlg, light_of, pq, srgb
from tests.conftest import encoded
from tests.conftest import read_bytes as read

FLAT = {"white": (255,) * 3, "black": (0,) * 3, "grey": (128,) * 3}


# --- WebP and AVIF


@pytest.mark.parametrize("colour", FLAT)
@pytest.mark.parametrize("lossless", [False, True])
def test_a_photo_on_a_flat_ground_is_read(cat, colour, lossless):
    image = Image.new("RGB", (1500, 1300), FLAT[colour])
    image.paste(cat.resize((500, 400)), (400, 300))
    data = encoded(image, "WEBP", method=0 if lossless else 4, quality=50, lossless=lossless)
    assert bytes(64) in data  # of a lossy one at its end
    np.testing.assert_array_equal(read(data), np.asarray(Image.open(io.BytesIO(data))))


def with_brands(data, major, compatible):
    """An AVIF file with other brands, as many as it has."""
    size = int.from_bytes(data[:4], "big")
    box = data[4:8] + major + data[12:16] + compatible
    return struct.pack(">I", size) + box.ljust(size - 4, b"\0") + data[size:]


def test_compatible_brands_tell_avif_from_heic(cat):
    data = encoded(cat, "AVIF")
    for brands in (b"mif1avif", b"mif1mif1miafavif", b"mif1miafMA1Bavif"):
        np.testing.assert_array_equal(read(with_brands(data, brands[:4], brands[4:])), read(data))


# --- colours by H.273's codes, without a profile


TO_P3 = np.array([[0.8225, 0.1774, 0.0], [0.0332, 0.9669, 0.0], [0.0171, 0.0724, 0.9108]])
CODED = {
    "PQ": (TO_2020, pq, 9, 16),
    "HLG": (TO_2020, hlg, 9, 18),
    "BT.2020": (TO_2020, srgb, 9, 1),
    "Display P3": (TO_P3, srgb, 12, 13),
    "linear": (np.eye(3), lambda light: light, 1, 8),
}


def with_codes(pixels, image_format, primaries, transfer):
    """A file of RGB uint8 [H, W, 3] that says these codes."""
    if image_format == "AVIF":
        data = bytearray(encoded(Image.fromarray(pixels), "AVIF", quality=100, subsampling="4:4:4"))
        at = data.index(b"colrnclx") + 8
        data[at : at + 4] = struct.pack(">HH", primaries, transfer)
        return bytes(data)
    data, said = encoded(Image.fromarray(pixels), "PNG"), bytes([primaries, transfer, 0, 1])
    chunk = struct.pack(">I4s4sI", 4, b"cICP", said, zlib.crc32(b"cICP" + said))
    return data[:33] + chunk + data[33:]


@pytest.mark.parametrize("image_format", ["AVIF", "PNG"])
@pytest.mark.parametrize("name", CODED)
def test_coded_colours_become_srgb(cat, name, image_format):
    matrix, curve, primaries, transfer = CODED[name]
    wanted = np.asarray(cat).astype(float)
    pixels = np.rint(255 * np.clip(curve(light_of(wanted) @ matrix.T), 0, 1)).astype("uint8")
    assert np.abs(pixels - wanted).mean() > 3.5
    found = read(with_codes(pixels, image_format, primaries, transfer))
    assert np.abs(found - wanted).mean() < 3


@pytest.mark.parametrize("image_format", ["AVIF", "PNG"])
def test_unknown_codes_are_refused_and_srgbs_change_nothing(cat, image_format):
    pixels = np.asarray(cat)
    with pytest.raises(InputError, match="its colours have the codes 9/17, which are not known"):
        read(with_codes(pixels, image_format, 9, 17))
    plain = read(encoded(cat, image_format, **({"quality": 100, "subsampling": "4:4:4"})))
    np.testing.assert_array_equal(read(with_codes(pixels, image_format, 1, 13)), plain)


# --- raw files


def write_raw(path, kind):
    """A preview of 60 x 40, and the sensor's picture of 120 x 80 in it."""
    tifffile = pytest.importorskip("tifffile")
    preview = np.full((40, 60, 3), 90, "uint8")
    sensor = np.zeros((80, 120, 3) if kind == "linear" else (80, 120), "uint16")
    version = [(50706, 1, 4, b"\1\4\0\0", True)] if kind == "dng" else []
    with tifffile.TiffWriter(path) as file:
        subifds = 0 if kind == "pages" else 1
        file.write(preview, photometric="rgb", subfiletype=1, subifds=subifds, extratags=version)
        file.write(sensor, photometric="linear_raw" if kind == "linear" else "cfa")
    return path


RAW = {
    "cr2": b"II*\0\x10\0\0\0CR\2\0",
    "cr3": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom",
    "raf": b"FUJIFILMCCD-RAW 0201",
}


@pytest.mark.parametrize("kind", ["dng", "nef", "linear", "pages", *RAW])
def test_a_cameras_raw_file_is_named(tmp_path, cat, kind):
    path = tmp_path / f"photo.{kind}"
    start = RAW.get(kind)
    path.write_bytes(start + bytes(400)) if start else write_raw(path, kind)
    with pytest.raises(InputError, match="is a camera's raw file: develop it first"):
        read_image(path)


@pytest.mark.parametrize("planes", [False, True])
def test_a_deep_tiff_that_is_cut_is_refused(tmp_path, cat, planes):
    tifffile = pytest.importorskip("tifffile")
    pixels = np.asarray(cat)
    deep = pixels.transpose(2, 0, 1).astype("uint16") if planes else pixels / 255.0
    planar = "separate" if planes else "contig"
    tifffile.imwrite(tmp_path / "a.tif", deep, photometric="rgb", planarconfig=planar)
    data = (tmp_path / "a.tif").read_bytes()
    assert read(data).shape == (100, 150, 3)
    for part in (0.3, 0.6, 0.95):
        with pytest.raises(InputError, match="truncated"):
            read(data[: int(part * len(data))])


def test_a_pyramid_of_a_cameras_tiff_is_read_whole(tmp_path, cat):
    tifffile = pytest.importorskip("tifffile")
    pixels = np.asarray(cat)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        make = [(271, "s", 0, "Field Camera", True)]
        file.write(pixels, photometric="rgb", subifds=1, extratags=make)
        file.write(pixels[::2, ::2].copy(), photometric="rgb", subfiletype=1)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), pixels)


# --- orientation, several pictures


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "avif", "cmyk.jpg"])
def test_xmp_turns_no_photo_and_no_map(tmp_path, cat, suffix):
    path, image = tmp_path / f"a.{suffix}", cat.convert("CMYK") if "cmyk" in suffix else cat
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    extra = {"png": {"pnginfo": text}, "tif": {"tiffinfo": {700: XMP}}}.get(suffix, {"xmp": XMP})
    image.save(path, **extra)
    assert b"tiff:Orientation" in path.read_bytes()
    assert read_image(path).shape == (100, 150, 3)
    if suffix != "cmyk.jpg":
        image.convert("L").save(path, **extra)
        assert read_map(path).shape == (100, 150)
    exif = Image.Exif()
    exif[0x0112] = 8
    image.save(path, exif=exif, **({} if suffix == "tif" else extra))
    assert read_image(path).shape == (150, 100, 3)  # EXIF counts, beside XMP too


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP", "TIFF", "MPO", "AVIF"])
def test_pictures_are_counted_by_content_and_the_first_is_read(tmp_path, cat, image_format):
    path = tmp_path / "photo.jpg"
    cat.save(path, image_format, save_all=True, append_images=[cat.rotate(90), cat.rotate(180)])
    first = read_image(path)
    assert count_pictures(path) == 3
    cat.save(path, "JPEG" if image_format == "MPO" else image_format)
    assert count_pictures(path) == 1
    assert np.abs(first - read_image(path).astype(int)).mean() < 9
    path.write_bytes(b"no picture")
    assert count_pictures(path) == 1


# --- memory


@pytest.mark.parametrize(
    ("image_format", "fails", "error"),
    [
        ("PNG", "opening.check_png", MemoryError()),
        ("PNG", "opening.check_png", cv2.error("OpenCV(4.14.0) error: Failed to allocate 9 bytes")),
        ("PNG", "opening.check_png", OSError("out of memory when reading image file")),
        ("PNG", "opening.check_png", RuntimeError("can't start new thread")),
        ("PNG", "opening.check_png", RuntimeError("std::bad_alloc")),
        ("JPEG", "jpeg.simplejpeg.decode_jpeg", ValueError("Insufficient memory (case 4)")),
    ],
)
def test_too_little_memory_is_no_damage(tmp_path, cat, monkeypatch, image_format, fails, error):
    def fail(*_, **__):
        raise error

    if "simplejpeg" in fails:
        pytest.importorskip("simplejpeg")
    monkeypatch.setattr(f"SCFNet.photos.{fails}", fail)
    with pytest.raises(InputError, match=r"a name: not enough memory$"):
        read(encoded(cat, image_format))
    (tmp_path / "a.pdparams").write_bytes(b"sound")
    monkeypatch.setattr("SCFNet.checkpoint.read_weights", fail)
    with pytest.raises(InputError, match=r"a\.pdparams: .*(not enough|out of) memory"):
        load_checkpoint(tmp_path / "a.pdparams")
    assert not is_memory_short(OSError("image file is truncated"))


# --- the host, and libraries


@pytest.mark.parametrize("limit", [10000, 1000])  # at which Pillow warns of the cat, and refuses it
def test_a_hosts_pillow_and_warnings_stay_as_they_are(cat, monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    monkeypatch.setattr(opening, "LARGE_PIXELS", 1000)
    data = encoded(cat, "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        filters = list(warnings.filters)
        assert read(data).shape == (100, 150, 3)
        with opening.large_photo("a name", data) as is_large:
            assert is_large  # the header was read
        assert limit == Image.MAX_IMAGE_PIXELS and warnings.filters == filters


def test_without_simplejpeg_pillow_reads(cat, monkeypatch):
    monkeypatch.setattr(jpeg, "simplejpeg", None)
    for mode in ("RGB", "L", "CMYK"):
        data, wanted = encoded(cat.convert(mode)), np.asarray(cat.convert(mode).convert("RGB"))
        assert np.abs(read(data).astype(int) - wanted).mean() < 9
        with pytest.raises(InputError, match="truncated"):
            read(data[: len(data) // 2])


def test_libraries_print_nothing(cat, capfd, tmp_path):
    tifffile = pytest.importorskip("tifffile")
    data = encoded(cat)
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 20, 30), "float32"), photometric="rgb")
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((20, 30, 3), "uint32"), photometric="rgb")
    for bad in (
        data[: len(data) // 2],
        data[:2000] + b"\xff" * 500 + data[2500:],
        (tmp_path / "a.tif").read_bytes(),
        (tmp_path / "b.tif").read_bytes(),
        encoded(cat, "TIFF", compression="tiff_lzw")[:9000],
        encoded(cat, "PNG")[:9000],
    ):
        with pytest.raises(InputError):
            read(bad)
    assert capfd.readouterr() == ("", "")
