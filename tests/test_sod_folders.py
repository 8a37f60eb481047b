"""Data sets on the disk: folders and lists as they are downloaded, and files that are not whole."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datasets.loader import Epoch, batches
from datasets.sod import Sample, check_files, has_masks, list_masks, list_pairs, read_pair
from SCFNet.errors import InputError
from SCFNet.photos.reading import read_image
from tests.conftest import HEIGHT, WIDTH, disc, make_set, photo


@pytest.fixture(scope="module")
def ten(tmp_path_factory):
    return list_pairs(make_set(tmp_path_factory.mktemp("ten"), [f"p{i}" for i in range(10)]))


@pytest.mark.parametrize("folders", [("image", "mask"), ("images", "masks"), ("image", "masks")])
@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png", ".bmp", ".JPG"])
def test_common_folder_names_and_suffixes_are_found(tmp_path, folders, suffix):
    make_set(tmp_path, ["b", "a.1"], folders, suffix)
    assert list_pairs(tmp_path) == [
        Sample(s, tmp_path / folders[0] / (s + suffix), tmp_path / folders[1] / f"{s}.png")
        for s in ("a.1", "b")
    ]


@pytest.mark.parametrize(
    "folders",
    [
        ("DUTS-TR-Image", "DUTS-TR-Mask"),
        ("imgs", "gt"),
        ("Imgs", "GT"),
        ("im_aug", "gt_aug"),
        ("Image", "Mask"),
        ("IMAGES", "ground_truth"),
        ("img", "GroundTruth"),
    ],
)
def test_folders_as_sets_are_downloaded(tmp_path, folders):
    make_set(tmp_path, ["a"], folders)
    expected = (tmp_path / folders[0] / "a.jpg", tmp_path / folders[1] / "a.png")
    assert [sample[1:3] for sample in list_pairs(tmp_path)] == [expected]
    assert [sample.image for sample in list_pairs(tmp_path, labelled=False)] == [expected[0]]
    assert list_masks(tmp_path) == {"a": expected[1]}
    assert has_masks(tmp_path) and not has_masks(tmp_path / folders[0])


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


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links here")
def test_links_are_followed_but_not_round_in_circles(tmp_path):
    make_set(tmp_path / "x", ["a"])
    (tmp_path / "y").mkdir()
    for kind in ("image", "mask"):
        (tmp_path / "y" / kind).symlink_to(tmp_path / "x" / kind)
        (tmp_path / "x" / kind / "again").symlink_to(tmp_path / "x")
    assert [s.stem for s in list_pairs(tmp_path / "y")] == ["a"]


def test_the_list_decides_what_belongs_and_in_which_order(tmp_path):
    make_set(tmp_path, ["a", "b", "c"], listed="c\na\n")
    assert [s.stem for s in list_pairs(tmp_path)] == ["c", "a"]


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
    expected = list(dict.fromkeys(stem for stem, _ in lines if stem.strip()))
    if expected:
        assert [s.stem for s in list_pairs(root)] == expected
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
        "{} 1",
        '"{}.jpg"',
    ],
)
def test_lists_as_other_sets_write_them_read(tmp_path, line, encoding):
    make_set(tmp_path, ["b", "a", "n/c"])
    lines = [line.replace("{}", stem) for stem in ("b", "n/c")]
    (tmp_path / "train.txt").write_bytes("\r\n".join(lines).encode(encoding))
    assert [s.stem for s in list_pairs(tmp_path)] == ["b", "n/c"]


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


def test_names_with_spaces_and_commas_are_names(tmp_path):
    make_set(tmp_path, ["my dog", "a, b"], listed="my dog\na, b.jpg\n")
    assert [s.stem for s in list_pairs(tmp_path)] == ["my dog", "a, b"]


def test_a_photo_in_a_folder_is_not_another_of_its_name(tmp_path):
    make_set(tmp_path, ["a"], listed="cats/a\n")
    with pytest.raises(InputError, match="cats/a has no image"):
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


def test_unpaired_files_are_named(tmp_path):
    make_set(tmp_path, ["a", "b", "c"])
    (tmp_path / "mask/a.png").unlink()
    (tmp_path / "image/b.jpg").unlink()
    with pytest.raises(InputError, match=r"2 faults.*b\.png has no image.*a\.jpg has no mask"):
        list_pairs(tmp_path)


def test_two_photos_of_one_stem_are_an_error(tmp_path):
    make_set(tmp_path, ["a"])
    Image.fromarray(photo()).save(tmp_path / "image/a.bmp")
    with pytest.raises(InputError, match=r"a\.jpg has the stem of another"):
        list_pairs(tmp_path)


def test_other_files_do_not_matter(tmp_path):
    make_set(tmp_path, ["a"])
    for name in ("image/._a.jpg", "image/Thumbs.db", "mask/readme.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert [s.stem for s in list_pairs(tmp_path)] == ["a"]


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


def test_a_good_set_passes_the_check(ten):
    check_files(ten)


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


def test_the_fast_way_to_read_a_photo_equals_the_careful_one(ten):
    for sample in ten:
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
