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
from tests.conftest import HEIGHT, WIDTH, disc, encoded, make_set, photo

# --- folders


def stems(*arguments, **more):
    """The stems that `list_pairs` lists, or the fault that it raises."""
    try:
        return [sample.stem for sample in list_pairs(*arguments, **more)]
    except InputError as error:
        assert "\n" not in str(error)
        return str(error)


def lay_out(root, layout, names=("001", "002", "003")):
    """Write a set of which `layout` names photo and mask of a stem: '{}' stands for it."""
    for i, stem in enumerate(names):
        for path, pixels in zip(layout, (photo(i), disc())):
            place = root / path.replace("{}", stem)
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(place)
    return root


FILES = {  # what lies there, and the pairs of it, or a part of the fault
    "imgs/a.jpg gt/a.png im_aug/b.jpg gt_aug/b.png": ["a"],
    "imgs/a.jpg gt/a.png im_aug/b.jpg gt_aug/b.png image/c.jpg mask/c.png": ["c"],
    "Train/image/a.jpg Train/mask/a.png test/image/b.jpg test/mask/b.png": ["a"],
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
}


@pytest.mark.parametrize("files", FILES)
def test_pairs_are_found_or_the_fault_is_named_and_nothing_is_guessed(tmp_path, files):
    for file in files.split():
        place = tmp_path / file
        (place if file.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
        if not file.endswith("/"):
            place.touch()
    found, expected = stems(tmp_path), FILES[files]
    if isinstance(expected, str):
        assert expected.format(tmp_path) in found
    else:
        assert found == expected


def test_a_path_that_is_no_folder_is_told(tmp_path):
    (tmp_path / "file").touch()
    assert "no such folder" in stems(tmp_path / "nowhere")
    assert "is a file, not a folder; a data set is" in stems(tmp_path / "file")


LAYOUTS = {
    ("JPEGImages/{}.jpg", "SegmentationClass/{}.png"): "JPEGImages/ and SegmentationClass/",
    ("JPEGImages/{}.jpg", "SegmentationClassPNG/{}.png"): "JPEGImages/ and SegmentationClassPNG/",
    ("images/{}.jpg", "labels/{}.png"): "images/ and labels/",
    ("images/train/{}.jpg", "annotations/train/{}.png"): "images/ and annotations/",
    ("IMAGES/a/{}.JPG", "Annotation/a/{}.PNG"): "IMAGES/ and Annotation/",
    ("img/{}.jpg", "Label/{}.png"): "img/ and Label/",
    ("image/{}.jpeg", "mask/{}.png"): "",
    ("images/d.1/{}.bmp", "masks/d.1/{}.png"): "",
    ("image/{}.png", "masks/{}.png"): "",
    ("DUTS-TR-Image/{}.jpg", "DUTS-TR-Mask/{}.png"): "DUTS-TR-Image/ and DUTS-TR-Mask/",
    ("imgs/{}.jpg", "gt/{}.png"): "imgs/ and gt/",
    ("Imgs/{}.JPG", "GT/{}.png"): "Imgs/ and GT/",
    ("im_aug/{}.jpg", "gt_aug/{}.png"): "im_aug/ and gt_aug/",
    ("Image/{}.jpg", "Mask/{}.png"): "Image/ and Mask/",
    ("IMAGES/{}.jpg", "ground_truth/{}.png"): "IMAGES/ and ground_truth/",
    ("img/{}.jpg", "GroundTruth/{}.png"): "img/ and GroundTruth/",
    ("images/train/{}.jpg", "masks/{}.png"): "",
    ("image/{}.jpg", "mask/{}_mask.png"): "image/ and mask/, masks are *_mask",
    ("image/{}.png", "mask/gt-{}.png"): "image/ and mask/, masks are gt-*",
    ("image/{}_rgb.png", "mask/{}.png"): "image/ and mask/, masks are *_rgb",
    ("image/img_{}.png", "mask/mask_{}.png"): "image/ and mask/, masks are mask_*",
    ("image/{}_rgb.jpg", "mask/{}_gt.png"): "image/ and mask/, masks are *_gt",
    ("{}.jpg", "mask/{}.png"): "./ and mask/",
    ("DUT-OMRON-image/{}.jpg", "pixelwiseGT-new-PNG/{}.png"): (
        "DUT-OMRON-image/ and pixelwiseGT-new-PNG/"
    ),
    ("{}.jpg", "{}.png"): "one folder, masks are *.png",
    ("Imgs/{}.jpg", "Imgs/{}.png"): "Imgs/, masks are *.png",
    ("cats/Src/{}.jpg", "cats/Src/{}.png"): "one folder, masks are *.png",
    ("Set_Imgs_GT/Imgs/{}.jpg", "Set_Imgs_GT/Imgs/{}.png"): "one folder, masks are *.png",
    ("{}.jpg", "{}_mask.png"): "one folder, masks are *_mask",
    ("{}_sat.jpg", "{}_mask.png"): "one folder, masks are *_mask",
    ("{}.jpg", "{}_MASK.jpg"): "one folder, masks are *_MASK",
    ("a/{}.jpg", "a/mask_{}.png"): "one folder, masks are mask_*",
    ("{}.png", "{}_GT.png"): "one folder, masks are *_GT",
    ("deep/{}.jpg", "deep/{}-label.png"): "one folder, masks are *-label",
    ("train/{}.jpg", "train_masks/{}_mask.png"): "train/ and train_masks/, masks are *_mask",
    ("RGB/{}.png", "GT/{}.png"): "RGB/ and GT/",
}


@pytest.mark.parametrize("layout", LAYOUTS, ids=" ".join)
def test_layouts_of_other_tools_and_sets(tmp_path, layout):
    lay_out(tmp_path, layout)
    said = []
    found = [(s.image, s.mask) for s in list_pairs(tmp_path, say=said.append)]
    stems = ("001", "002", "003")
    assert found == [tuple(tmp_path / p.replace("{}", stem) for p in layout) for stem in stems]
    told = LAYOUTS[layout]
    assert said == ([f"{tmp_path}: 3 pairs of {told}"] if told else [])
    assert sorted(list_masks(tmp_path).values()) == [mask for _, mask in found]
    photos = [sample.image for sample in list_pairs(tmp_path, labelled=False)]
    assert photos == [image for image, _ in found]
    assert has_masks(tmp_path)


def test_folders_train_and_test_are_the_splits(tmp_path):
    for split, names in (("Train", ["a", "b"]), ("test", ["c"])):
        make_set(tmp_path / split, names)
    assert (stems(tmp_path), stems(tmp_path, "test")) == (["a", "b"], ["c"])
    assert list(list_masks(tmp_path)) == ["c"]


def test_albums_with_images_in_their_name_are_not_all_of_a_set_of_photos(tmp_path):
    make_set(tmp_path, ["a"], ("wedding-images",))
    make_set(tmp_path, ["b"], ("holidays",))
    assert stems(tmp_path, labelled=False) == ["holidays/b", "wedding-images/a"]
    for album in ("beach-photos", "city-photos", "labels", "photos", "alpha"):
        make_set(tmp_path, [f"in {album}"], (album,))
    assert len(stems(tmp_path, labelled=False)) == 7


def test_unlabelled_photos_at_any_depth_with_and_without_image_folder(tmp_path):
    make_set(tmp_path, ["a", "n1/b", "n1/n2/c"])
    for root in (tmp_path, tmp_path / "image"):
        found = [(s.stem, s.mask) for s in list_pairs(root, labelled=False)]
        assert found == [("a", None), ("n1/b", None), ("n1/n2/c", None)]


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links here")
def test_links_are_followed_but_not_round_in_circles(tmp_path):
    make_set(tmp_path / "x", ["a"])
    (tmp_path / "y").mkdir()
    for kind in ("image", "mask"):
        (tmp_path / "y" / kind).symlink_to(tmp_path / "x" / kind)
        (tmp_path / "x" / kind / "again").symlink_to(tmp_path / "x")
    assert stems(tmp_path / "y") == ["a"]


@pytest.mark.parametrize(
    "layout", [("JPEGImages/{}.jpg", "SegmentationClass/{}.png"), ("{}.jpg", "{}.png")]
)
def test_of_voc_the_photos_with_a_mask_count(tmp_path, layout):
    lay_out(tmp_path, layout)
    lay_out(tmp_path, layout[:1], ["only-a-photo", "another"])
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "001.xml").touch()
    said = []
    assert len(list_pairs(tmp_path, say=said.append)) == 3
    assert "2 photos without a mask are left out" in said[0]
    assert len(list_pairs(tmp_path, labelled=False)) == 5


def test_what_notebooks_and_drives_leave_does_not_count(tmp_path):
    make_set(tmp_path, ["a", "b"])
    for kind, suffix in (("image", ".jpg"), ("mask", ".png")):
        for folder in (".ipynb_checkpoints", "@eaDir/a.jpg", "@tmp", "__MACOSX"):
            place = tmp_path / kind / folder
            place.mkdir(parents=True)
            Image.fromarray(photo()).save(place / f"a-checkpoint{suffix}")
    make_set(tmp_path, ["x"], (".image", ".mask"))
    for name in ("image/._a.jpg", "image/Thumbs.db", "mask/readme.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert stems(tmp_path) == ["a", "b"]
    assert list(list_masks(tmp_path)) == ["a", "b"]
    assert stems(tmp_path, labelled=False) == ["a", "b"]
    assert stems(tmp_path / "image", labelled=False) == ["a", "b"]
    assert list(list_folder(tmp_path / "mask")) == ["a", "b"]


@pytest.mark.skipif(sys.platform == "darwin", reason="names have one form there")
@pytest.mark.parametrize("listed", [None, "caf\u00e9\n", "cafe\u0301.jpg\n"])
def test_accents_are_the_same_in_both_forms(tmp_path, listed):
    make_set(tmp_path, ["cafe\u0301"], listed=listed)
    (tmp_path / "mask" / "cafe\u0301.png").rename(tmp_path / "mask" / "caf\u00e9.png")
    (sample,) = list_pairs(tmp_path)
    assert sample.stem == "caf\u00e9"
    assert sample.image.exists() and sample.mask.exists()
    assert list(list_masks(tmp_path)) == ["caf\u00e9"]


# --- lists

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


def test_a_second_column_names_the_mask(tmp_path):
    make_set(tmp_path, ["a", "b"], listed="a.jpg b.png\nb.jpg a.png\n")
    found = [(sample.stem, sample.mask.name) for sample in list_pairs(tmp_path)]
    assert found == [("a", "b.png"), ("b", "a.png")]


def test_of_two_lists_the_split_decides_and_one_counts_in_any_case(tmp_path):
    make_set(tmp_path, ["a", "b"], listed="a\n")
    (tmp_path / "test.txt").write_text("b\n")
    assert (stems(tmp_path), stems(tmp_path, "test")) == (["a"], ["b"])
    (tmp_path / "test.txt").unlink()
    (tmp_path / "train.txt").rename(tmp_path / "Train.TXT")
    assert (stems(tmp_path), stems(tmp_path, "test")) == (["a"], ["a"])


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


def test_missing_files_are_listed_up_to_ten_and_counted(tmp_path):
    make_set(tmp_path, ["a"], listed="a\n" + "\n".join(f"no/lost{i}" for i in range(25)))
    message = stems(tmp_path)
    assert message.count("has no image") == 10 and "no/lost0 has no image" in message
    assert "25 faults" in message and "and 15 more" in message


def test_a_line_of_a_training_list_is_a_sample(tmp_path):
    make_set(tmp_path, ["a", "b", "c"], listed="a\nb\nb\nb.jpg\n")
    said = []
    assert stems(tmp_path, say=said.append) == ["a", "b", "b", "b"]
    assert said.pop() == f"{tmp_path}: 2 lines of train.txt repeat others: 4 samples"
    assert stems(tmp_path, "test", say=said.append) == ["a", "b"]
    assert said.pop().endswith("2 lines of train.txt repeat others: each photo counts once")
    assert list(list_masks(tmp_path, say=said.append)) == ["a", "b"]
    assert said.pop().endswith("2 lines of train.txt repeat others: each photo counts once")
    assert stems(tmp_path, labelled=False) == ["a", "b", "b", "b"]
    (tmp_path / "train.txt").write_text("c\na\n")
    assert stems(tmp_path, say=said.append) == ["c", "a"] and not said


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


@pytest.mark.parametrize("name", ["image/b.jpg", "mask/b.png"])
@pytest.mark.parametrize("labelled", [True, False])
def test_what_is_damaged_inside_is_left_out_if_asked(tmp_path, name, labelled):
    """Its header and its end are whole: that passes the quick check of a photo."""
    make_set(tmp_path, ["a", "b", "c"])
    rng = np.random.default_rng(0)
    for path in ("image/b.jpg", "mask/b.png"):
        noise = rng.integers(0, 256, (HEIGHT, WIDTH, 3)[: 2 if "mask" in path else 3], "uint8")
        Image.fromarray(noise).save(tmp_path / path)
    data = bytearray((tmp_path / name).read_bytes())
    data[len(data) // 3 : len(data) * 2 // 3] = bytes(len(data) * 2 // 3 - len(data) // 3)
    (tmp_path / name).write_bytes(data)
    samples, said = list_pairs(tmp_path, labelled=labelled), []
    kept = check_files(samples, skip_unreadable=True, say=said.append)
    if labelled or "image" in name:
        assert [s.stem for s in kept] == ["a", "c"]
        assert said[0].startswith(f"{tmp_path}/image: left out 1 of 3: {tmp_path}/{name}: ")
    else:
        assert kept == samples and not said


def cut(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])


def resize_mask(path):
    Image.fromarray(disc(HEIGHT, WIDTH + 1)).save(path)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("image/b.jpg", cut),
        ("mask/b.png", cut),
        ("image/b.jpg", lambda path: path.write_bytes(b"no image")),
        ("mask/b.png", lambda path: path.write_bytes(b"")),
        ("mask/b.png", resize_mask),
    ],
)
def test_damaged_files_and_masks_of_another_size_are_named(tmp_path, name, damage):
    make_set(tmp_path, ["a", "b", "c"])
    samples = list_pairs(tmp_path)
    damage(tmp_path / name)
    with pytest.raises(InputError, match=f"1 faults.*{name}"):
        check_files(samples)
    with pytest.raises(InputError, match=name):
        read_pair(samples[1])


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
