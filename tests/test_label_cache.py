"""The cache of a teacher's maps: filled by several, refused if it is another's."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import paddle
import pytest

from datasets.files import InputError
from datasets.sod import list_pairs
from SCFNet.checkpoint import load_checkpoint
from SCFNet.training import label_cache, teacher
from tests.conftest import distill_recipe as recipe


def test_a_cache_for_another_teacher_size_or_set_is_refused(pairs, teacher_file, tmp_path):
    maps, other = tmp_path / "maps", tmp_path / "other.pdparams"
    samples = list_pairs(pairs, labelled=False)
    opened = teacher.open_teacher(recipe(teacher=teacher_file, teacher_size=64))
    assert len(label_cache.with_cached_labels(opened, samples[:3], maps)) == 3
    with pytest.raises(InputError, match="filled with other photos"):
        label_cache.with_cached_labels(opened, samples, maps)
    opened = replace(opened, size=96)
    with pytest.raises(InputError, match="filled with other size"):
        label_cache.with_cached_labels(opened, samples[:3], maps)
    state = load_checkpoint(teacher_file)
    state["linear2.bias"] = state["linear2.bias"] + 1
    paddle.save(state, str(other))
    opened = teacher.open_teacher(recipe(teacher=other, teacher_size=64))
    with pytest.raises(InputError, match="filled with other weights"):
        label_cache.with_cached_labels(opened, samples[:3], maps)
    (maps / label_cache.MANIFEST).unlink()
    with pytest.raises(InputError, match="holds files, but no"):
        label_cache.with_cached_labels(opened, samples[:3], maps)


def test_two_fill_one_cache(pairs, tmp_path):
    """Both end with all maps, and neither makes those that the other has made."""
    runs = []

    def run(images):
        runs.append(len(images))
        return paddle.full([len(images), 1, 64, 64], 0.6)

    samples = list_pairs(pairs, labelled=False)
    constant = teacher.Teacher(run, 64, {"weights": "x"})
    with ThreadPoolExecutor(2) as pool:
        found = [
            pool.submit(label_cache.with_cached_labels, constant, samples, tmp_path / "maps")
            for _ in range(2)
        ]
    assert all(len(future.result()) == 10 for future in found)
    assert 10 <= sum(runs) <= 20
    runs.clear()
    label_cache.with_cached_labels(constant, samples, tmp_path / "maps")
    assert not runs
    assert (cv2.imread(str(tmp_path / "maps" / "3.png"), -1) == 153).all()
