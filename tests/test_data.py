"""Data sets: listing and checking them, reading, augmentation, and batches that can be resumed."""

import threading

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datasets.augment import RELEASE, STRONG, augment, paste_object
from datasets.files import InputError
from datasets.images import read_image
from datasets.loader import batches, count_batches, epoch_indices
from datasets.sod import Sample, check_files, list_pairs, read_pair
from datasets.transform import MEAN, STD, Normalisation, network_input

HEIGHT, WIDTH = 24, 32


def photo(seed=0, height=HEIGHT, width=WIDTH):
    """A smooth random photo, which JPEG keeps nearly as it is."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype="uint8")
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def disc(height=HEIGHT, width=WIDTH, radius=7):
    y, x = np.mgrid[:height, :width]
    return ((y - height / 2) ** 2 + (x - width / 2) ** 2 < radius**2).astype("uint8") * 255


def make_set(root, stems, folders=("image", "mask"), suffix=".jpg", listed=None, newline="\n"):
    """Write a data set of one pair per stem; `listed` is the text of its train.txt."""
    for i, stem in enumerate(stems):
        for folder, end, pixels in zip(folders, (suffix, ".png"), (photo(i), disc())):
            path = root / folder / (stem + end)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    if listed is not None:
        (root / "train.txt").write_text(listed, "utf-8", newline=newline)
    return root


@pytest.fixture(scope="module")
def ten(tmp_path_factory):
    return list_pairs(make_set(tmp_path_factory.mktemp("ten"), [f"p{i}" for i in range(10)]))


# --- listing


@pytest.mark.parametrize("folders", [("image", "mask"), ("images", "masks"), ("image", "masks")])
@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png", ".bmp", ".JPG"])
def test_folder_names_and_suffixes(tmp_path, folders, suffix):
    make_set(tmp_path, ["b", "a.1"], folders, suffix)
    assert list_pairs(tmp_path) == [
        Sample(s, tmp_path / folders[0] / (s + suffix), tmp_path / folders[1] / f"{s}.png")
        for s in ("a.1", "b")
    ]


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


def test_places_that_are_no_data_set(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        list_pairs(tmp_path / "nowhere")
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


# --- checking and reading


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
            list(batches(samples, 2, [16], 0, 0, workers=workers))


CODINGS = {
    "0 and 255": lambda m: Image.fromarray(np.rint(m * 255).astype("uint8")),
    "0 and 1": lambda m: Image.fromarray((m > 0.5).astype("uint8")),
    "1 bit": lambda m: Image.fromarray(m > 0.5),
    "16 bits": lambda m: Image.fromarray(np.rint(m * 65535).astype("uint16")),
    "RGB": lambda m: Image.fromarray(np.rint(m * 255).astype("uint8")).convert("RGB"),
    "palette": lambda m: Image.fromarray(np.rint(m * 255).astype("uint8")).convert("P"),
    "grey and alpha": lambda m: Image.fromarray(np.rint(m * 255).astype("uint8")).convert("LA"),
}


@settings(max_examples=60, deadline=None)
@given(coding=st.sampled_from(sorted(CODINGS)), seed=st.integers(0, 2**32 - 1), hard=st.booleans())
def test_masks_read_the_same_in_any_coding(tmp_path_factory, coding, seed, hard):
    root = tmp_path_factory.mktemp("mask")
    mask = np.random.default_rng(seed).random((5, 7))
    mask[0, 0] = 1
    if hard or coding in ("0 and 1", "1 bit"):
        mask = np.rint(mask)
    Image.fromarray(photo(0, 5, 7)).save(root / "a.jpg")
    CODINGS[coding](mask).save(root / "a.png")
    read = read_pair(Sample("a", root / "a.jpg", root / "a.png"))[1]
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, mask, atol=0.5 / 255 + 1e-6)
    if hard:
        np.testing.assert_array_equal(read, mask)


@pytest.mark.parametrize("value", [0, 1, 255])
def test_masks_of_one_value(tmp_path, value):
    Image.fromarray(photo()).save(tmp_path / "a.jpg")
    Image.fromarray(np.full((HEIGHT, WIDTH), value, "uint8")).save(tmp_path / "a.png")
    mask = read_pair(Sample("a", tmp_path / "a.jpg", tmp_path / "a.png"))[1]
    assert np.unique(mask).tolist() == [float(value > 0)]


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


# --- augmentation

ZOOM = RELEASE._replace(zoom=1.0)


def variants(image, mask, count, settings=RELEASE):
    return [augment(image, mask, np.random.default_rng([9, i]), settings) for i in range(count)]


def test_the_same_random_numbers_give_the_same_pixels_and_leave_the_input_alone():
    image, mask = photo(), disc()
    kept = image.copy(), mask.copy()
    for settings_ in (RELEASE, STRONG, ZOOM):
        first, second = variants(image, mask, 20, settings_), variants(image, mask, 20, settings_)
        for pair, again in zip(first, second):
            np.testing.assert_array_equal(pair[0], again[0])
            np.testing.assert_array_equal(pair[1], again[1])
        assert len({pair[0].tobytes() for pair in first}) == 20
    np.testing.assert_array_equal(image, kept[0])
    np.testing.assert_array_equal(mask, kept[1])


def test_without_a_mask_the_photo_is_the_same():
    image = photo()
    with_mask, without = variants(image, disc(), 20), variants(image, None, 20)
    for (expected, _), (found, mask) in zip(with_mask, without):
        assert mask is None
        np.testing.assert_array_equal(found, expected)


def test_flips_happen_as_often_as_in_the_release():
    count = 2000
    y, x = (np.ascontiguousarray(a).astype("uint8") for a in np.mgrid[:HEIGHT, :WIDTH])
    image = photo()
    mirrored = np.mean([m[0, 0] > m[0, -1] for _, m in variants(image, x, count)])
    upside_down = np.mean([m[0, 0] > m[-1, 0] for _, m in variants(image, y, count)])
    assert mirrored == pytest.approx(0.5, abs=0.045)  # four standard deviations
    assert upside_down == pytest.approx(0.2, abs=0.036)


def test_crops_cut_up_to_an_eighth_of_each_side_anywhere():
    image, count = photo(0, 48, 64), 2000
    y, x = (np.ascontiguousarray(a).astype("uint8") for a in np.mgrid[:48, :64])
    for places, axis, side in ((y, 0, 48), (x, 1, 64)):
        masks = [mask for _, mask in variants(image, places, count)]
        assert {mask.shape[axis] for mask in masks} == set(range(side - side // 8 + 1, side + 1))
        assert {mask.min() for mask in masks} == set(range(side // 8 - 1))


def test_contrast_and_brightness_have_the_releases_range_and_clip():
    for level in (0, 100, 250):
        image = np.full((16, 16, 3), level, "uint8")
        values = np.array([v[0, 0, 0] for v, _ in variants(image, None, 3000)], int)
        low, high = (np.clip(level * c + b, 0, 255) for c, b in ((0.5, -15), (1.5, 14)))
        assert low - 0.5 <= values.min() <= low + 4
        assert high - 4 <= values.max() <= high + 0.5


def test_blur_is_for_one_photo_in_ten_and_for_no_mask():
    image = np.zeros((32, 32, 3), "uint8")
    image[:, 16:] = 200
    mask = image[..., 0].copy()
    pairs = variants(image, mask, 2000)
    blurred = np.mean([len(np.unique(i)) > 2 for i, _ in pairs])
    assert blurred == pytest.approx(0.1, abs=0.027)
    assert all(set(np.unique(m)) <= {0, 200} for _, m in pairs)


@pytest.mark.parametrize("settings_", [RELEASE, STRONG, ZOOM])
def test_photo_and_mask_move_together(settings_):
    mask = disc(radius=6)
    mask[:4, :4] = 255
    image = np.repeat(mask[..., None], 3, axis=2)
    for found, moved in variants(image, mask, 200, settings_):
        assert found.shape[:2] == moved.shape
        levels = found[..., 0].astype(float)
        middle = (levels.min() + levels.max()) / 2
        assert np.mean((levels > middle) == (moved > 127)) > 0.9


def test_strong_crops_keep_the_object():
    mask = np.zeros((40, 60), "uint8")
    mask[2:8, 50:58] = 255
    shapes = set()
    for _, cropped in variants(photo(0, 40, 60), mask, 300, STRONG):
        assert (cropped > 0).sum() >= 24
        shapes.add(cropped.shape)
    assert min(height for height, _ in shapes) <= 25


def test_a_zoom_makes_the_object_large_and_lets_the_frame_cut_it():
    mask = np.zeros((300, 400), "uint8")
    mask[100:220, 150:290] = 255
    only_zoom = ZOOM._replace(crop=0.0)
    zoomed = [moved > 127 for _, moved in variants(photo(0, 300, 400), mask, 300, only_zoom)]
    assert all(moved.sum() >= 0.3 * (mask > 0).sum() for moved in zoomed)
    assert all(min(moved.shape) >= 96 for moved in zoomed)
    assert np.mean([moved.mean() for moved in zoomed]) > 2 * (mask > 0).mean()
    cut = [moved[[0, -1]].any() or moved[:, [0, -1]].any() for moved in zoomed]
    assert 0.5 < np.mean(cut) < 1


def test_a_zoom_leaves_a_photo_without_an_object_as_it_is():
    image, empty = photo(0, 200, 200), np.zeros((200, 200), "uint8")
    assert all(min(moved.shape) > 174 for _, moved in variants(image, empty, 20, ZOOM))


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 3)])
def test_the_smallest_photos(size):
    image, mask = np.full((*size, 3), 9, "uint8"), np.full(size, 255, "uint8")
    for settings_ in (RELEASE, STRONG, ZOOM):
        for found, moved in variants(image, mask, 30, settings_):
            assert found.shape[:2] == moved.shape and found.size
    pasted, _ = paste_object(image, mask, photo(), disc(), np.random.default_rng(0))
    assert pasted.shape == image.shape


def test_a_pasted_object_is_in_photo_and_mask_and_nothing_else_changes():
    image, mask = np.full((60, 80, 3), 50, "uint8"), np.zeros((60, 80), "uint8")
    mask[:5, :5] = 255
    donor = np.full((HEIGHT, WIDTH, 3), 200, "uint8")
    sizes = set()
    for seed in range(50):
        found, united = paste_object(image, mask, donor, disc(), np.random.default_rng(seed))
        assert (united >= mask).all() and united.max() == 255
        new = united > mask
        assert new.any()
        assert (found[~new & (mask == 0)] == 50).all()
        assert (found[(united == 255) & (mask == 0)] == 200).all()
        sizes.add(new.any(axis=1).sum())
    assert len(sizes) > 10
    np.testing.assert_array_equal(image, 50)


def test_an_empty_donor_changes_nothing():
    image, mask = photo(), disc()
    found = paste_object(image, mask, photo(1), np.zeros_like(mask), np.random.default_rng(0))
    np.testing.assert_array_equal(found[0], image)
    np.testing.assert_array_equal(found[1], mask)


def test_normalising_after_the_resize_equals_doing_it_before():
    image = photo(3, 90, 120)
    before = cv2.resize((image.astype("float64") - MEAN) / STD, (64, 64)).transpose(2, 0, 1)
    np.testing.assert_allclose(network_input([image], 64)[0], before, atol=1e-4)


def test_a_network_may_have_its_own_mean_and_standard_deviation():
    image = photo(3, 90, 120)
    release = network_input([image], 64)[0] * STD[:, None, None] + MEAN[:, None, None]
    own = network_input([image], 64, Normalisation((10, 20, 30), (1, 2, 4)))[0]
    np.testing.assert_allclose(own[1], (release[1] - 20) / 2, atol=1e-4)
    np.testing.assert_allclose(own[2], (release[2] - 30) / 4, atol=1e-4)


# --- batches


def fetch(samples, **options):
    return list(batches(samples, 3, [16, 24, 32], 5, 1, **options))


def assert_same(found, expected):
    assert len(found) == len(expected)
    for pair, other in zip(found, expected):
        for array, wanted in zip(pair, other):
            np.testing.assert_array_equal(array, wanted)


@pytest.mark.parametrize("augmentation", [RELEASE, STRONG])
def test_batches_do_not_depend_on_workers_nor_on_where_one_starts(ten, augmentation):
    expected = fetch(ten, augmentation=augmentation)
    assert_same(fetch(ten, augmentation=augmentation, workers=2), expected)
    for start in range(5):
        found = fetch(ten, augmentation=augmentation, start_batch=start, workers=start % 2)
        assert_same(found, expected[start:])


def test_shapes_types_and_ranges(ten):
    found = fetch(ten)
    assert [len(images) for images, _ in found] == [3, 3, 3, 1]
    for images, masks in found:
        count, channels, height, width = images.shape
        assert (channels, height) == (3, width) and width in (16, 24, 32)
        assert masks.shape == (count, 1, height, width)
        assert images.dtype == masks.dtype == np.float32
        assert masks.min() == 0 and masks.max() == 1
        assert np.abs(images).max() < 3


def test_epochs_and_seeds_differ(ten):
    first = next(batches(ten, 10, [16], 0, 0))[0]
    for seed, epoch in ((0, 1), (1, 0)):
        assert np.abs(next(batches(ten, 10, [16], seed, epoch))[0] - first).max() > 0.1


def test_every_size_is_drawn_and_alike_on_all_processes(ten):
    sizes = [
        [
            images.shape[2]
            for epoch in range(4)
            for images, _ in batches(ten, 1, [8, 12, 16], 0, epoch, rank=rank, world=2)
        ]
        for rank in (0, 1)
    ]
    assert sizes[0] == sizes[1]
    assert set(sizes[0]) == {8, 12, 16}


@settings(max_examples=200, deadline=None)
@given(
    samples=st.integers(1, 200),
    batch_size=st.integers(1, 20),
    world=st.integers(1, 5),
    epoch=st.integers(0, 3),
)
def test_processes_share_the_samples_without_loss_or_repeat(samples, batch_size, world, epoch):
    if samples < world:
        with pytest.raises(InputError, match="too few"):
            count_batches(samples, batch_size, world)
        return
    parts = [epoch_indices(samples, batch_size, 0, epoch, r, world) for r in range(world)]
    assert {len(part) for part in parts} == {count_batches(samples, batch_size, world)}
    together = np.concatenate([batch for part in parts for batch in part])
    assert sorted(together) == list(range(samples))
    for part in parts:
        assert all(1 <= len(batch) <= batch_size + 1 for batch in part)
        assert all(len(batch) == batch_size for batch in part[:-2])


def test_the_releases_epoch_has_83_steps():
    assert count_batches(10_553, 128) == 83


def test_samples_without_masks(ten):
    unlabelled = [sample._replace(mask=None) for sample in ten]
    found, expected = fetch(unlabelled), fetch(ten)
    assert all(masks is None for _, masks in found)
    assert_same([(images,) for images, _ in found], [(images,) for images, _ in expected])


def test_an_iterator_that_is_closed_early_leaves_no_thread(ten):
    before = threading.active_count()
    iterator = batches(ten, 1, [16], 0, 0, workers=2)
    next(iterator)
    assert threading.active_count() == before + 2
    iterator.close()
    assert threading.active_count() == before
