"""Data sets on the disk: folders and lists as they are downloaded, and files that are not whole."""

import os
import sys

import numpy as np
import pytest
from PIL import Image

from datasets.sod import (
    Sample,
    check_files,
    has_masks,
    list_folder,
    list_masks,
    list_pairs,
    read_pair,
)
from SCFNet.errors import InputError
from SCFNet.photos.damage import has_hole
from tests.conftest import HEIGHT, WIDTH, disc, encoded, make_set, photo, write_png_header

# --- folders and lists: no file is opened but a list


def put(root, files):
    """Write empty files, folders ("x/") and lists ("train.txt=a|b" has two lines); the root."""
    for file in files.split():
        name, _, text = file.partition("=")
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_text(text.replace("|", "\n"), "utf-8")
    return root


def stems(*arguments, **more):
    """The stems that `list_pairs` lists, or the fault that it raises."""
    try:
        return [sample.stem for sample in list_pairs(*arguments, **more)]
    except InputError as error:
        assert "\n" not in str(error)
        return str(error)


AB = "image/a.jpg image/b.jpg mask/a.png mask/b.png"
FILES = {  # what lies there, and the pairs of it, or a part of the fault
    "imgs/a.jpg gt/a.png im_aug/b.jpg gt_aug/b.png": ["a"],
    "imgs/a.jpg gt/a.png im_aug/b.jpg gt_aug/b.png image/c.jpg mask/c.png": ["c"],
    "S-TR-Image/a.jpg S-TR-Mask/a.png S-TE-Image/a.jpg S-TE-Mask/a.png": (
        "has S-TE-Image and S-TR-Image: name a folder"
    ),
    "images/a.jpg labels/a.png labels/more.png": "1 faults: {}/labels/more.png has no image",
    "img/a.jpg gt/a.png img/more.jpg": "1 faults: {}/img/more.jpg has no mask",
    "image/a.jpg image/a.bmp mask/a.png": "a.jpg has the stem of another",
    "image/1.jpg image/2.jpg mask/1_a.png mask/2_a.png mask/1_b.png mask/2_b.png": "has no mask",
    "image/1.jpg image/2.jpg mask/10.png mask/20.png": "1.jpg has no mask",  # a number is not cut
    "net/a.png mask/a.png": "names no images",  # maps are no photos
    "": "has no folder image/",
    "image/": "has no folder mask/",
    "image/ mask/": "names no images",
    f"{AB} train.txt=|": "train.txt: names no images",
}


@pytest.mark.parametrize("files", FILES)
def test_pairs_are_found_or_the_fault_is_named_and_nothing_is_guessed(tmp_path, files):
    found, expected = stems(put(tmp_path, files)), FILES[files]
    if isinstance(expected, str):
        assert expected.format(tmp_path) in found
    else:
        assert found == expected


def test_a_path_that_is_no_folder_is_told(tmp_path):
    put(tmp_path, "file")
    assert "no such folder" in stems(tmp_path / "nowhere")
    assert "is a file, not a folder; a data set is" in stems(tmp_path / "file")


FOLDERS = [  # of photos and of masks
    *("JPEGImages SegmentationClass", "JPEGImages SegmentationClassPNG", "images labels"),
    *("img Label", "DUTS-TR-Image DUTS-TR-Mask", "imgs gt", "Imgs GT", "im_aug gt_aug"),
    *("Image Mask", "IMAGES ground_truth", "img GroundTruth", "RGB GT"),
    "DUT-OMRON-image pixelwiseGT-new-PNG",
]
LAYOUTS = {  # of photo and mask, and what is said of it
    **{
        f"{photos}/{{}}.jpg {masks}/{{}}.png": f"{photos}/ and {masks}/"
        for photos, masks in map(str.split, FOLDERS)
    },
    "images/train/{}.jpg annotations/train/{}.png": "images/ and annotations/",
    "IMAGES/a/{}.JPG Annotation/a/{}.PNG": "IMAGES/ and Annotation/",
    "image/{}.jpeg mask/{}.png": "",
    "images/d.1/{}.bmp masks/d.1/{}.png": "",
    "image/{}.png masks/{}.png": "",
    "images/train/{}.jpg masks/{}.png": "",
    "image/{}.jpg mask/{}_mask.png": "image/ and mask/, masks are *_mask",
    "image/{}.png mask/gt-{}.png": "image/ and mask/, masks are gt-*",
    "image/{}_rgb.png mask/{}.png": "image/ and mask/, masks are *_rgb",
    "image/img_{}.png mask/mask_{}.png": "image/ and mask/, masks are mask_*",
    "image/{}_rgb.jpg mask/{}_gt.png": "image/ and mask/, masks are *_gt",
    "train/{}.jpg train_masks/{}_mask.png": "train/ and train_masks/, masks are *_mask",
    "{}.jpg mask/{}.png": "./ and mask/",
    "{}.jpg {}.png": "one folder, masks are *.png",
    "Imgs/{}.jpg Imgs/{}.png": "Imgs/, masks are *.png",
    "cats/Src/{}.jpg cats/Src/{}.png": "one folder, masks are *.png",
    "Set_Imgs_GT/Imgs/{}.jpg Set_Imgs_GT/Imgs/{}.png": "one folder, masks are *.png",
    "{}.jpg {}_mask.png": "one folder, masks are *_mask",
    "{}_sat.jpg {}_mask.png": "one folder, masks are *_mask",
    "{}.jpg {}_MASK.jpg": "one folder, masks are *_MASK",
    "a/{}.jpg a/mask_{}.png": "one folder, masks are mask_*",
    "{}.png {}_GT.png": "one folder, masks are *_GT",
    "deep/{}.jpg deep/{}-label.png": "one folder, masks are *-label",
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_other_tools_and_sets(tmp_path, layout):
    files, said = [layout.replace("{}", stem) for stem in ("001", "002", "003")], []
    put(tmp_path, " ".join(files))
    found = [(s.image, s.mask) for s in list_pairs(tmp_path, say=said.append)]
    assert found == [tuple(tmp_path / path for path in pair.split()) for pair in files]
    told = LAYOUTS[layout]
    assert said == ([f"{tmp_path}: 3 pairs of {told}"] if told else [])
    assert sorted(list_masks(tmp_path).values()) == [mask for _, mask in found]
    photos = [sample.image for sample in list_pairs(tmp_path, labelled=False)]
    assert photos == [image for image, _ in found]
    assert has_masks(tmp_path)


SPLITS = {  # what lies there, the photos of train and of test, and what is said of them
    "Train/image/a.jpg Train/mask/a.png test/image/b.jpg test/mask/b.png": ("a", "b", "", ""),
    f"{AB} train.txt=a test.txt=b": ("a", "b", "", ""),
    f"{AB} Train.TXT=a": ("a", "a", "", ""),
    f"{AB} train.txt=b|a": ("ba", "ba", "", ""),
    f"{AB} train.txt=a|b|b|b.jpg": ("abbb", "ab", "4 samples", "each photo counts once"),
}


@pytest.mark.parametrize("files", SPLITS)
def test_folders_and_lists_are_the_splits_and_a_line_of_a_training_list_is_a_sample(
    tmp_path, files
):
    put(tmp_path, files)
    train, test, *notes = SPLITS[files]
    for (split, expected), note in zip((("train", train), ("test", test)), notes):
        said = []
        assert stems(tmp_path, split, say=said.append) == [*expected]
        told = f"{tmp_path}: 2 lines of train.txt repeat others: {note}"
        assert said == ([told] if note else [])
    assert sorted(list_masks(tmp_path, say=said.append)) == sorted(test)
    assert said == ([told] * 2 if note else [])


def test_a_second_column_names_the_mask(tmp_path):
    put(tmp_path, f"{AB} train.txt=a.jpg;b.png|b.jpg;a.png")
    found = [(sample.stem, sample.mask.name) for sample in list_pairs(tmp_path)]
    assert found == [("a", "b.png"), ("b", "a.png")]


def test_missing_files_are_listed_up_to_ten_and_counted(tmp_path):
    message = stems(put(tmp_path, f"{AB} train.txt=a|" + "|".join(f"no/{i}" for i in range(25))))
    assert message.count("has no image") == 10 and "no/0 has no image" in message
    assert "25 faults" in message and "and 15 more" in message


UNLABELLED = {  # what lies there, and the photos of it
    "image/a.jpg image/n1/b.jpg image/n1/n2/c.jpg": "a n1/b n1/n2/c",
    "a.jpg n1/b.jpg n1/n2/c.jpg": "a n1/b n1/n2/c",
    "wedding-images/a.jpg holidays/b.jpg": "holidays/b wedding-images/a",  # albums
    "beach-photos/a.jpg city-photos/b.jpg labels/c.jpg photos/d.jpg alpha/e.jpg": (
        "alpha/e beach-photos/a city-photos/b labels/c photos/d"
    ),
    f"{AB} train.txt=a|b|b": "a b b",
}


@pytest.mark.parametrize("files", UNLABELLED)
def test_photos_without_masks_lie_at_any_depth_and_in_albums(tmp_path, files):
    found = list_pairs(put(tmp_path, files), labelled=False)
    assert [sample.stem for sample in found] == UNLABELLED[files].split()
    assert not any(sample.mask for sample in found)


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links here")
def test_links_are_followed_but_not_round_in_circles(tmp_path):
    put(tmp_path, "x/image/a.jpg x/mask/a.png y/")
    for kind in ("image", "mask"):
        (tmp_path / "y" / kind).symlink_to(tmp_path / "x" / kind)
        (tmp_path / "x" / kind / "again").symlink_to(tmp_path / "x")
    assert stems(tmp_path / "y") == ["a"]


@pytest.mark.parametrize(
    "layout", ["JPEGImages/{}.jpg SegmentationClass/{}.png Annotations/{}.xml", "{}.jpg {}.png"]
)
def test_of_voc_the_photos_with_a_mask_count(tmp_path, layout):
    for stem in "abc":
        put(tmp_path, layout.replace("{}", stem))
    for stem in ("only-a-photo", "another"):
        put(tmp_path, layout.split()[0].replace("{}", stem))
    said = []
    assert stems(tmp_path, say=said.append) == ["a", "b", "c"]
    assert "2 photos without a mask are left out" in said[0]
    assert len(stems(tmp_path, labelled=False)) == 5


def test_what_notebooks_and_drives_leave_does_not_count(tmp_path):
    put(tmp_path, f"{AB} .image/x.jpg .mask/x.png image/._a.jpg image/Thumbs.db mask/readme.txt")
    for folder in (".ipynb_checkpoints", "@eaDir/a.jpg", "@tmp", "__MACOSX"):
        put(tmp_path, f"image/{folder}/a-checkpoint.jpg mask/{folder}/a-checkpoint.png")
    assert stems(tmp_path) == ["a", "b"]
    assert list(list_masks(tmp_path)) == ["a", "b"]
    assert stems(tmp_path, labelled=False) == ["a", "b"]
    assert stems(tmp_path / "image", labelled=False) == ["a", "b"]
    assert list(list_folder(tmp_path / "mask")) == ["a", "b"]


@pytest.mark.skipif(sys.platform == "darwin", reason="names have one form there")
@pytest.mark.parametrize("listed", ["", "train.txt=caf\u00e9", "train.txt=cafe\u0301.jpg"])
def test_accents_are_the_same_in_both_forms(tmp_path, listed):
    put(tmp_path, f"image/cafe\u0301.jpg mask/caf\u00e9.png {listed}")
    (sample,) = list_pairs(tmp_path)
    assert sample.stem == "caf\u00e9"
    assert sample.image.exists() and sample.mask.exists()
    assert list(list_masks(tmp_path)) == ["caf\u00e9"]


ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be")
LINES = {  # of a set of a, b.2, d/c, "my dog" and "a, b": the stem that a line means
    **{"a": "a", "b.2": "b.2", "d/c": "d/c", "b.2.jpg": "b.2", "a\t": "a", " a ": "a"},
    **{"image/d/c.jpg": "d/c", "./data/SET/image/a.jpg": "a", "\\image\\d\\c.jpg": "d/c"},
    **{"/home/me/data/d/c.jpg": "d/c", "D:\\data\\a.jpg": "a", '"a.jpg"': "a", "a 1": "a"},
    **{"a.jpg mask/a.png": "a", "image/d/c.jpg\tmask/d/c.png": "d/c", "a.jpg,a.png": "a"},
    **{"\\image\\a.jpg mask\\a.png": "a", "my dog": "my dog", "a, b.jpg": "a, b"},
}


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_lists_are_read_as_editors_and_other_sets_write_them(tmp_path, encoding, newline):
    make_set(tmp_path, sorted({*LINES.values()}))
    text = newline.join([*LINES, "", "  ", "a"])
    (tmp_path / "train.txt").write_bytes(text.encode(encoding))
    assert stems(tmp_path) == [*LINES.values(), "a"]
    (tmp_path / "train.txt").write_bytes(newline.join(["", "  "]).encode(encoding))
    assert "train.txt: names no images" in stems(tmp_path)


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links here")
def test_a_list_that_is_no_text_is_an_error_and_not_passed_over(tmp_path):
    make_set(tmp_path, ["a", "b"])
    listing = tmp_path / "train.txt"
    for make in (lambda: listing.symlink_to("moved.txt"), lambda: os.mkfifo(listing)):
        make()
        assert "train.txt: is not a file" in stems(tmp_path)
        listing.unlink()
    listing.write_bytes(b"\xff\xfe\x00")
    assert "train.txt: cannot be read as UTF-8" in stems(tmp_path)


# --- checks


@pytest.mark.parametrize("quality", [60, 95])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_hole_of_zeros_is_found_and_flat_ground_is_none(tmp_path, cat, quality, mode):
    large = cat.resize((600, 400)).convert(mode)
    data = bytearray(encoded(large, quality=quality))
    assert not has_hole(bytes(data))
    half = len(data) // 2
    data[half : half + 200] = bytes(200)
    assert has_hole(bytes(data))
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(InputError, match="a part of the picture is zeros"):
        check_files([Sample("a", tmp_path / "a.jpg", None)], skip_unreadable=True)
    for ground in ("white", "black", "grey"):
        flat = Image.new(mode, (1500, 1500), ground)
        flat.paste(large, (40, 40))
        for options in ({}, {"optimize": True}, {"progressive": True}):
            sound = encoded(flat, quality=quality, **options)
            assert not has_hole(sound) and not has_hole(sound + bytes(500)), (ground, options)


@pytest.mark.parametrize("levels", [(0,), (255,), (0, 255), (3,), (100,)])
def test_masks_without_any_object_are_refused(tmp_path, levels):
    make_set(tmp_path, ["a", "b", "c"])
    for i, path in enumerate(sorted((tmp_path / "mask").iterdir())):
        Image.new("L", (WIDTH, HEIGHT), levels[i % len(levels)]).save(path)
    with pytest.raises(InputError, match=rf"{tmp_path}/mask: all 3 masks are .* throughout"):
        check_files(list_pairs(tmp_path))


def test_some_empty_masks_and_voids_are_fine_and_said(tmp_path):
    make_set(tmp_path, ["a", "b", "c"])
    Image.new("L", (WIDTH, HEIGHT)).save(tmp_path / "mask" / "a.png")
    void = np.minimum(disc(), 7)
    void[:3] = 255
    Image.fromarray(void).save(tmp_path / "mask" / "b.png")
    said = []
    assert len(check_files(list_pairs(tmp_path), say=said.append)) == 3
    assert said == [
        f"{tmp_path}/image: 1 of 3 masks are empty",
        f"{tmp_path}/image: 255 is void in 1 of 3 masks, and counts as background",
    ]


def cut(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])


def put_zeros_inside(path):
    """Damage that leaves header and end whole."""
    shape = (HEIGHT, WIDTH, 3)[: 2 if path.suffix == ".png" else 3]
    Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, "uint8")).save(path)
    data = bytearray(path.read_bytes())
    third = len(data) // 3
    data[third : 2 * third] = bytes(third)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *(("image/b.jpg", cut), ("mask/b.png", cut), ("mask/b.png", put_zeros_inside)),
        ("image/b.jpg", lambda path: path.write_bytes(b"no image")),
        ("mask/b.png", lambda path: path.write_bytes(b"")),
        ("mask/b.png", lambda path: Image.fromarray(disc(HEIGHT, WIDTH + 1)).save(path)),
        ("mask/b.png", lambda path: write_png_header(path, 16000)),
        ("image/b.jpg", put_zeros_inside),  # which passes the quick check of a photo
    ],
)
def test_damaged_files_and_masks_of_another_size_are_named_or_left_out(tmp_path, name, damage):
    make_set(tmp_path, ["a", "b", "c"])
    damage(tmp_path / name)
    samples, said = list_pairs(tmp_path), []
    if (name, damage) != ("image/b.jpg", put_zeros_inside):
        with pytest.raises(InputError, match=f"1 faults.*{name}"):
            check_files(samples)
        with pytest.raises(InputError, match=name):
            read_pair(samples[1])
    assert check_files(samples, True, said.append) == [samples[0], samples[2]]
    assert said[0].startswith(f"{tmp_path}/image: left out 1 of 3: {tmp_path}/{name}: ")
    photos = list_pairs(tmp_path, labelled=False)
    assert len(check_files(photos, True)) == (2 if "image" in name else 3)


def test_photos_are_turned_upright_and_the_mask_is_expected_so(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right
    Image.fromarray(photo()).save(tmp_path / "a.jpg", exif=exif)
    Image.fromarray(disc(WIDTH, HEIGHT)).save(tmp_path / "a.png")
    sample = Sample("a", tmp_path / "a.jpg", tmp_path / "a.png")
    assert read_pair(sample)[0].shape == (WIDTH, HEIGHT, 3)
    check_files([sample])
    Image.fromarray(disc()).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: is 32x24, but its image .* is 24x32"):
        check_files([sample])
