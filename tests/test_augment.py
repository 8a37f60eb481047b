"""Augmentation: the release's steps in the release's ranges, crops, zooms and pasted objects."""

import numpy as np
import pytest

from datasets.augment import PAPER, RELEASE, STRONG, augment, paste_object
from tests.conftest import HEIGHT, WIDTH, disc, photo

ZOOM = RELEASE._replace(zoom=1.0)


def variants(image, mask, count, settings=RELEASE):
    return [augment(image, mask, np.random.default_rng([9, i]), settings) for i in range(count)]


def test_the_same_random_numbers_give_the_same_pixels_and_leave_the_input_alone():
    """With a mask and without."""
    image, mask = photo(), disc()
    kept = image.copy(), mask.copy()
    for settings_ in (RELEASE, STRONG, ZOOM):
        first, second = variants(image, mask, 20, settings_), variants(image, mask, 20, settings_)
        for pair, again in zip(first, second):
            assert all(map(np.array_equal, pair, again))
        assert len({pair[0].tobytes() for pair in first}) == 20
    assert all(map(np.array_equal, (image, mask), kept))
    for (found, no_mask), (expected, _) in zip(
        variants(image, None, 20), variants(image, mask, 20)
    ):
        assert no_mask is None and np.array_equal(found, expected)


def grid(height, width):
    """The row and the column of each pixel, uint8 [H, W] both."""
    return [np.ascontiguousarray(axis).astype("uint8") for axis in np.mgrid[:height, :width]]


def test_flips_happen_as_often_as_in_the_release():
    count = 2000
    (y, x), image = grid(HEIGHT, WIDTH), photo()
    mirrored = np.mean([m[0, 0] > m[0, -1] for _, m in variants(image, x, count)])
    upside_down = np.mean([m[0, 0] > m[-1, 0] for _, m in variants(image, y, count)])
    assert mirrored == pytest.approx(0.5, abs=0.045)  # four standard deviations
    assert upside_down == pytest.approx(0.2, abs=0.036)
    upright = variants(image, y, 200, RELEASE._replace(vertical_flip=0.0))
    assert all(mask[0, 0] <= mask[-1, 0] for _, mask in upright)


def test_the_papers_augmentation_leaves_the_light_alone():
    image = photo()
    places = np.arange(HEIGHT * WIDTH, dtype="int32").reshape(HEIGHT, WIDTH)
    for found, mask in variants(image, places, 20, PAPER):
        np.testing.assert_array_equal(found, image.reshape(-1, 3)[mask])


def test_crops_cut_up_to_an_eighth_of_each_side_anywhere():
    for axis, (places, side) in enumerate(zip(grid(48, 64), (48, 64))):
        masks = [mask for _, mask in variants(photo(0, 48, 64), places, 2000)]
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
    empty = variants(photo(0, 200, 200), np.zeros((200, 200), "uint8"), 20, ZOOM)
    assert all(min(moved.shape) > 174 for _, moved in empty)  # as it is


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 3)])
def test_the_smallest_photos_are_augmented(size):
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
    of_nothing = paste_object(image, mask, donor, disc() * 0, np.random.default_rng(0))
    assert all(map(np.array_equal, of_nothing, (image, mask)))
