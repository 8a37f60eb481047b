"""The cache of a teacher's maps: filled by several, refused if it is another's."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import paddle
import pytest

from datasets.sod import Sample, list_pairs
from SCFNet.errors import InputError
from SCFNet.training import label_cache, teacher
from tests.conftest import distill_recipe as recipe
from tests.conftest import leave_temporary, photo, save_onnx_teacher


def constant(weights="x", size=64, runs=None):
    """A teacher of one number; the sizes of the batches that it is given go into `runs`."""

    def run(images):
        if runs is not None:
            runs.append(len(images))
        return paddle.full([len(images), 1, 64, 64], 0.6)

    return teacher.Teacher(run, size, {"weights": weights})


def test_a_cache_for_another_teacher_or_size_is_refused(pairs, tmp_path):
    samples, maps = list_pairs(pairs, labelled=False)[:3], tmp_path / "maps"
    assert len(label_cache.with_cached_labels(constant(), samples, maps)) == 3
    for found, fault in ((constant(size=96), "other size"), (constant("y"), "other weights")):
        with pytest.raises(InputError, match=f"was filled with {fault}"):
            label_cache.with_cached_labels(found, samples, maps)
    (maps / label_cache.MANIFEST).unlink()
    with pytest.raises(InputError, match="holds files, but no"):
        label_cache.with_cached_labels(constant(), samples, maps)


def test_two_fill_one_cache(pairs, tmp_path):
    """Both end with all maps, none is made again, and what a killed run left goes."""
    runs, samples, maps = [], list_pairs(pairs, labelled=False), tmp_path / "maps"
    maps.mkdir()
    leave_temporary(maps)

    def fill(samples):
        return label_cache.with_cached_labels(constant(runs=runs), samples, maps)

    with ThreadPoolExecutor(2) as pool:
        assert [len(found) for found in pool.map(fill, [samples] * 2)] == [10, 10]
    assert 10 <= sum(runs) <= 20
    assert not list(maps.glob("*.tmp"))
    runs.clear()
    assert len(fill(samples + samples[:3])) == 13 and not runs
    assert (cv2.imread(str(maps / "3.png"), -1) == 153).all()


@pytest.mark.parametrize(
    "operator, message",
    [("Log", "infinite or not a number"), ("first", "for 8 photos, not a map each")],
)
def test_a_teacher_of_no_use_fills_no_cache(pairs, tmp_path, operator, message):
    """One gives NaN (the logarithm of negative numbers), one the first photo's map for all."""
    file = save_onnx_teacher(tmp_path / "t.onnx", operator=operator)
    useless = teacher.open_teacher(recipe(teacher=file))
    with pytest.raises(InputError, match=f"t.onnx.*{message}"):
        label_cache.with_cached_labels(
            useless, list_pairs(pairs, labelled=False), tmp_path / "maps"
        )
    assert [path.name for path in (tmp_path / "maps").iterdir()] == [label_cache.MANIFEST]


@pytest.mark.skipif(sys.platform != "linux", reason="needs names that are no text")
def test_names_that_are_not_utf_8_have_a_digest(tmp_path):
    found = set()
    for stem in ("caf\udce9", "caf\udcea"):
        (tmp_path / stem).write_bytes(b"")
        found.add(label_cache.set_digest([Sample(stem, tmp_path / stem, None)]))
    assert len(found) == 2


def test_a_cache_of_other_photos_of_the_same_names_is_refused(tmp_path):
    """Copies of the photos elsewhere, with other times, are the same."""

    def fill(name, *numbers):
        folder = tmp_path / name
        folder.mkdir()
        for i, number in enumerate(numbers):
            pixels = photo(int(number), 64, 64)
            pixels[32, 32, 0] ^= 64 * (number % 1 > 0)
            cv2.imwrite(str(folder / f"{i}.bmp"), pixels)
        os.utime(folder / "0.bmp", (1, 1))
        samples = list_pairs(folder, labelled=False)
        return label_cache.with_cached_labels(constant(), samples, tmp_path / "maps")

    assert len(fill("first", 0, 1, 2)) == len(fill("copy", 0, 1, 2)) == 3
    for name, *numbers in (
        *(("one less", 0, 1), ("another set", 3, 4, 5), ("a replaced photo", 0, 9, 2)),
        *(("a swap", 1, 0, 2), ("a new pixel", 0, 1.5, 2)),
    ):
        with pytest.raises(InputError, match="maps: was filled with other photos"):
            fill(name, *numbers)
