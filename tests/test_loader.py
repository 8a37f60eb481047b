"""Batches for training: the same pixels whoever loads them, and from wherever one goes on."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.augment import RELEASE, STRONG
from datasets.loader import Batch, Epoch, batches, count_batches, epoch_indices
from datasets.sod import list_pairs
from SCFNet.errors import InputError
from SCFNet.photos.transform import RELEASE as NETWORK
from SCFNet.photos.transform import normalise
from tests.conftest import make_set, write_pairs


@pytest.fixture(scope="module")
def ten(tmp_path_factory):
    return list_pairs(make_set(tmp_path_factory.mktemp("ten"), [f"p{i}" for i in range(10)]))


def fetch(samples, augmentation=RELEASE, **options):
    """Batches in memory of their own: the loader uses its memory again."""
    epoch = Epoch(samples, [16, 24, 32], 3, seed=5, number=1, augmentation=augmentation)
    return [
        Batch(*(None if array is None else array.copy() for array in batch))
        for batch in batches(epoch, **options)
    ]


def assert_same(found, expected):
    assert len(found) == len(expected)
    for batch, other in zip(found, expected):
        np.testing.assert_equal(batch, other)


@pytest.mark.parametrize("augmentation", [RELEASE, STRONG])
def test_batches_do_not_depend_on_workers_nor_on_where_one_starts(ten, augmentation):
    expected = fetch(ten, augmentation)
    assert_same(fetch(ten, augmentation, workers=2), expected)
    for start in range(5):
        found = fetch(ten, augmentation, start=start, workers=start % 2)
        assert_same(found, expected[start:])


def test_shapes_types_and_ranges(ten):
    found = fetch(ten)
    assert [len(batch.images) for batch in found] == [3, 3, 3, 1]
    for images, masks, _ in found:
        count, channels, height, width = images.shape
        assert (channels, height) == (3, width) and width in (16, 24, 32)
        assert masks.shape == (count, 1, height, width)
        assert images.dtype == masks.dtype == np.float32
        assert masks.min() == 0 and masks.max() == 1
        assert 0 <= images.min() < 60 and 130 < images.max() <= 255


def test_epochs_and_seeds_differ(ten):
    epoch = Epoch(ten, [16], 10)
    first = next(batches(epoch))[0]
    for other in (epoch._replace(number=1), epoch._replace(seed=1)):
        assert np.abs(next(batches(other))[0] - first).max() > 0.1


def test_every_size_is_drawn_and_alike_on_all_processes(ten):
    sizes = [[], []]
    for rank in (0, 1):
        for number in range(4):
            epoch = Epoch(ten, [8, 12, 16], 1, 0, number, rank=rank, world=2)
            sizes[rank] += [batch.images.shape[2] for batch in batches(epoch)]
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
    this = Epoch([None] * samples, [8], batch_size, number=epoch, world=world)
    parts = [epoch_indices(this._replace(rank=rank)) for rank in range(world)]
    assert {len(part) for part in parts} == {count_batches(samples, batch_size, world)}
    together = np.concatenate([batch for part in parts for batch in part])
    assert sorted(together) == list(range(samples))
    for part in parts:
        assert all(1 <= len(batch) <= batch_size + 1 for batch in part)
        assert all(len(batch) == batch_size for batch in part[:-2])


def test_what_is_loaded_is_fixed_by_seed_epoch_and_place(ten):
    """Runs that go on after an update of this code see the pixels they would have seen."""
    images, masks, _ = next(batches(Epoch(ten, [16], 10, seed=3, number=2, augmentation=STRONG)))
    images = normalise(images, NETWORK)
    assert images.mean(axis=(1, 2, 3))[:3] == pytest.approx([0.488, 0.235, -0.309], abs=0.02)
    assert masks.mean(axis=(1, 2, 3))[:3] == pytest.approx([0.455, 0.244, 0.462], abs=0.01)


def test_the_releases_epoch_has_83_steps():
    assert count_batches(10_553, 128) == 83


def test_samples_without_masks_give_the_same_images(ten):
    unlabelled = [sample._replace(mask=None) for sample in ten]
    assert_same(fetch(unlabelled), [batch._replace(masks=None) for batch in fetch(ten)])


def test_a_teacher_of_another_size_sees_the_same_views_of_the_photos(ten):
    epoch = Epoch(ten, [16], 10, teacher_side=32)
    batch = next(batches(epoch))
    for images, other in (
        (batch.teacher_images, epoch._replace(sizes=[32])),
        (batch.images, epoch._replace(teacher_side=0)),
    ):
        np.testing.assert_array_equal(images, next(batches(other)).images)


def test_an_iterator_that_is_closed_early_leaves_no_thread(ten):
    before = threading.active_count()
    iterator = batches(Epoch(ten, [16], 1), workers=2)
    next(iterator)
    assert threading.active_count() == before + 2
    iterator.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_turns_bad_is_left_out_if_asked(tmp_path, workers):
    """Another sample stands in, so that batches keep their sizes; also for all of a batch."""
    write_pairs(tmp_path, 4)
    samples = list_pairs(tmp_path)
    (tmp_path / "image" / "2.jpg").unlink()
    (tmp_path / "mask" / "3.png").write_bytes(b"no mask")
    faults = []
    found = list(batches(Epoch(samples, [32], 1, leave_out=faults.append), workers=workers))
    assert [batch.images.shape for batch in found] == [(1, 3, 32, 32)] * 4
    for name in ("2.jpg", "3.png"):
        assert any(name in fault for fault in faults)
    with pytest.raises(InputError, match=r"2\.jpg|3\.png"):
        list(batches(Epoch(samples, [32], 1), workers=workers))
    for path in (tmp_path / "image").iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError, match="none of the photos can be read any more"):
        list(batches(Epoch(samples, [32], 1, leave_out=faults.append), workers=workers))
