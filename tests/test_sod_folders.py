"""Data sets on the disk: folders and lists as they are downloaded, and files that are not whole."""

import os
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datasets.loader import Epoch, batches
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
from SCFNet.photos.reading import read_image
from tests.conftest import HEIGHT, WIDTH, disc, encoded, make_set, photo


def test_of_several_folders_the_plainest_counts_and_equals_are_refused(tmp_path):
    make_set(tmp_path, ["a"], ("imgs", "gt"))
    make_set(tmp_path, ["b"], ("im_aug", "gt_aug"))
    assert [s.stem for s in list_pairs(tmp_path)] == ["a"]
    make_set(tmp_path, ["c"], ("image", "mask"))
    assert [s.stem for s in list_pairs(tmp_path)] == ["c"]
    for split in ("TR", "TE"):
        make_set(tmp_path / "DUTS", ["a"], (f"DUTS-{split}-Image", f"DUTS-{split}-Mask"))
    with pytest.raises(InputError, match="has DUTS-TE-Image and DUTS-TR-Image"):
        list_pairs(tmp_path / "DUTS")


def test_albums_with_images_in_their_name_are_not_all_of_a_set_of_photos(tmp_path):
    make_set(tmp_path, ["a"], ("wedding-images",))
    make_set(tmp_path, ["b"], ("holidays",))
    stems = [s.stem for s in list_pairs(tmp_path, labelled=False)]
    assert stems == ["holidays/b", "wedding-images/a"]
    for album in ("beach-photos", "city-photos", "labels", "photos", "alpha"):
        make_set(tmp_path, [f"in {album}"], (album,))
    assert len(list_pairs(tmp_path, labelled=False)) == 7


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links here")
def test_links_are_followed_but_not_round_in_circles(tmp_path):
    make_set(tmp_path / "x", ["a"])
    (tmp_path / "y").mkdir()
    for kind in ("image", "mask"):
        (tmp_path / "y" / kind).symlink_to(tmp_path / "x" / kind)
        (tmp_path / "x" / kind / "again").symlink_to(tmp_path / "x")
    assert [s.stem for s in list_pairs(tmp_path / "y")] == ["a"]


def test_a_list_counts_in_any_case_and_folders_of_maps_are_no_photos(tmp_path):
    make_set(tmp_path, ["a", "b"], listed="b\n")
    (tmp_path / "train.txt").rename(tmp_path / "Train.TXT")
    assert [s.stem for s in list_pairs(tmp_path)] == ["b"]
    (tmp_path / "image").rename(tmp_path / "net")
    for path in (tmp_path / "net").iterdir():
        path.rename(path.with_suffix(".png"))
    with pytest.raises(InputError, match="b has no image"):
        list_pairs(tmp_path)


def test_of_two_lists_the_split_decides(tmp_path):
    make_set(tmp_path, ["a", "b"], listed="a\n")
    (tmp_path / "test.txt").write_text("b\n")
    assert [s.stem for s in list_pairs(tmp_path)] == ["a"]
    assert [s.stem for s in list_pairs(tmp_path, split="test")] == ["b"]
    (tmp_path / "test.txt").unlink()
    assert [s.stem for s in list_pairs(tmp_path, split="test")] == ["a"]


@settings(max_examples=40, deadline=None)
@given(
    lines=st.lists(
        st.tuples(
            st.sampled_from(["a", "b.2", "d/c", "", "  "]),
            st.sampled_from(["", ".jpg", " ", "\t"]),
        ),
        min_size=1,
    ),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
    bom=st.booleans(),
)
def test_lists_as_editors_leave_them(tmp_path_factory, lines, newline, bom):
    root = make_set(tmp_path_factory.mktemp("set"), ["a", "b.2", "d/c"])
    text = newline.join(stem + end if stem.strip() else stem for stem, end in lines)
    (root / "train.txt").write_bytes((("\ufeff" if bom else "") + text).encode())
    expected = [stem for stem, _ in lines if stem.strip()]
    if expected:
        assert [s.stem for s in list_pairs(root)] == expected
        once = list(dict.fromkeys(expected))
        assert [s.stem for s in list_pairs(root, "test")] == once
    else:
        with pytest.raises(InputError, match=r"train\.txt.*names no images"):
            list_pairs(root)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    "line",
    [
        "image/{}.jpg",
        "{}.jpg mask/{}.png",
        "image/{}.jpg\tmask/{}.png",
        "{}.jpg,{}.png",
        "\\image\\{}.jpg mask\\{}.png",
        "./data/SET/image/{}.jpg",
        "/home/me/data/{}.jpg",
        "D:\\data\\{}.jpg",
        "{} 1",
        '"{}.jpg"',
    ],
)
def test_lists_as_other_sets_write_them_read(tmp_path, line, encoding):
    make_set(tmp_path, ["b", "a", "n/c"])
    lines = [line.replace("{}", stem) for stem in ("b", "n/c")]
    (tmp_path / "train.txt").write_bytes("\r\n".join(lines).encode(encoding))
    assert [s.stem for s in list_pairs(tmp_path)] == ["b", "n/c"]


def test_names_in_a_list_may_have_spaces_commas_and_folders(tmp_path):
    make_set(tmp_path, ["my dog", "a, b"], listed="my dog\na, b.jpg\n")
    assert [s.stem for s in list_pairs(tmp_path)] == ["my dog", "a, b"]
    (tmp_path / "train.txt").write_text("cats/my dog\n")
    with pytest.raises(InputError, match="cats/my dog has no image"):
        list_pairs(tmp_path)


def test_a_second_column_names_the_mask(tmp_path):
    make_set(tmp_path, ["a", "b"], listed="a.jpg a_gt.png\nb.jpg b_gt.png\n")
    for stem in ("a", "b"):
        (tmp_path / "mask" / f"{stem}.png").rename(tmp_path / "mask" / f"{stem}_gt.png")
    assert [(s.stem, s.mask.name) for s in list_pairs(tmp_path)] == [
        ("a", "a_gt.png"),
        ("b", "b_gt.png"),
    ]


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links here")
def test_a_list_that_is_no_file_is_an_error_and_not_passed_over(tmp_path):
    make_set(tmp_path, ["a", "b"])
    listing = tmp_path / "train.txt"
    listing.symlink_to("moved.txt")
    with pytest.raises(InputError, match=r"train\.txt: is not a file"):
        list_pairs(tmp_path)
    listing.unlink()
    os.mkfifo(listing)
    with pytest.raises(InputError, match=r"train\.txt: is not a file"):
        list_pairs(tmp_path)


def test_unlabelled_photos_at_any_depth_with_and_without_image_folder(tmp_path):
    make_set(tmp_path / "x", ["a", "n1/b", "n1/n2/c"])
    expected = [("a", None), ("n1/b", None), ("n1/n2/c", None)]
    found = list_pairs(tmp_path / "x", labelled=False)
    assert [(s.stem, s.mask) for s in found] == expected
    found = list_pairs(tmp_path / "x" / "image", labelled=False)
    assert [(s.stem, s.mask) for s in found] == expected


def test_missing_files_are_listed_up_to_ten_and_counted(tmp_path):
    make_set(tmp_path, ["a"], listed="a\n" + "\n".join(f"lost{i}" for i in range(25)))
    with pytest.raises(InputError) as error:
        list_pairs(tmp_path)
    message = str(error.value)
    assert message.count("has no image") == 10
    assert "25 faults" in message and "and 15 more" in message
    assert "\n" not in message


UNPAIRED = {  # layouts of what lies there, and what is wrong with it
    ("images/{}.jpg", "labels/{}.png", "labels/more.png"): r"1 faults: .*more\.png has no image",
    ("img/{}.jpg", "gt/{}.png", "img/more.jpg"): r"1 faults: .*more\.jpg has no mask",
    ("image/{}.jpg", "mask/{}.png", "image/002.bmp"): r"002\.jpg has the stem of another",
    ("image/{}.jpg", "mask/{}_body.png", "image/{}.jpg", "mask/{}_edge.png"): "has no mask",
    ("image/{}.jpg", "mask/{}0.png"): r"001\.jpg has no mask",  # a number is not cut
}


@pytest.mark.parametrize("layout", UNPAIRED, ids=" ".join)
def test_what_has_no_partner_is_named_and_none_is_guessed(tmp_path, layout):
    for i in range(0, len(layout), 2):
        lay_out(tmp_path, layout[i : i + 2])
    with pytest.raises(InputError, match=UNPAIRED[layout]):
        list_pairs(tmp_path)


def test_what_is_no_data_set_is_told(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        list_pairs(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file, not a folder; a data set is"):
        list_pairs(tmp_path / "file")
    with pytest.raises(InputError, match="has no folder image/"):
        list_pairs(tmp_path)
    (tmp_path / "image").mkdir()
    with pytest.raises(InputError, match="has no folder mask/"):
        list_pairs(tmp_path)
    (tmp_path / "mask").mkdir()
    with pytest.raises(InputError, match="names no images"):
        list_pairs(tmp_path)
    (tmp_path / "train.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"train\.txt: cannot be read as UTF-8"):
        list_pairs(tmp_path)


# --- layouts


def lay_out(root, layout, stems=("001", "002", "003")):
    """Write a set of which `layout` names photo and mask of a stem: '{}' stands for it."""
    for i, stem in enumerate(stems):
        for path, pixels in zip(layout, (photo(i), disc())):
            place = root / path.replace("{}", stem)
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(place)
    return root


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
    for split, stems in (("Train", ["a", "b"]), ("test", ["c"])):
        make_set(tmp_path / split, stems)
    assert [s.stem for s in list_pairs(tmp_path)] == ["a", "b"]
    assert [s.stem for s in list_pairs(tmp_path, "test")] == ["c"]
    assert list(list_masks(tmp_path)) == ["c"]


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
    assert [s.stem for s in list_pairs(tmp_path)] == ["a", "b"]
    assert list(list_masks(tmp_path)) == ["a", "b"]
    assert [s.stem for s in list_pairs(tmp_path, labelled=False)] == ["a", "b"]
    assert [s.stem for s in list_pairs(tmp_path / "image", labelled=False)] == ["a", "b"]
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


def test_a_line_of_a_training_list_is_a_sample(tmp_path):
    make_set(tmp_path, ["a", "b", "c"], listed="a\nb\nb\nb.jpg\n")
    said = []
    assert [s.stem for s in list_pairs(tmp_path, say=said.append)] == ["a", "b", "b", "b"]
    assert said.pop() == f"{tmp_path}: 2 lines of train.txt repeat others: 4 samples"
    assert [s.stem for s in list_pairs(tmp_path, "test", say=said.append)] == ["a", "b"]
    assert said.pop().endswith("2 lines of train.txt repeat others: each photo counts once")
    assert list(list_masks(tmp_path, say=said.append)) == ["a", "b"]
    assert said.pop().endswith("2 lines of train.txt repeat others: each photo counts once")
    assert [s.stem for s in list_pairs(tmp_path, labelled=False)] == ["a", "b", "b", "b"]
    (tmp_path / "train.txt").write_text("c\na\n")
    assert [s.stem for s in list_pairs(tmp_path, say=said.append)] == ["c", "a"] and not said


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
    for workers in (0, 2):
        with pytest.raises(InputError, match=name):
            list(batches(Epoch(samples, [16], 2), workers=workers))


def test_the_fast_way_to_read_a_photo_equals_the_careful_one(tmp_path):
    for sample in list_pairs(make_set(tmp_path, ["a", "b", "c"])):
        difference = read_pair(sample)[0].astype(int) - read_image(sample.image)
        assert np.abs(difference).max() <= 2


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
