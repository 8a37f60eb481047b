"""The cache of a teacher's maps: filled by several, refused if it is another's."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import paddle
import pytest

from datasets.sod import Sample, list_pairs
from SCFNet.checkpoint import load_checkpoint
from SCFNet.errors import InputError
from SCFNet.training import label_cache, teacher
from tests.conftest import distill_recipe as recipe
from tests.conftest import leave_temporary, save_onnx_teacher


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
    """Both end with all maps, neither makes those that the other has made, and what a killed run
    left goes.
    """
    runs = []

    def run(images):
        runs.append(len(images))
        return paddle.full([len(images), 1, 64, 64], 0.6)

    samples = list_pairs(pairs, labelled=False)
    constant = teacher.Teacher(run, 64, {"weights": "x"})
    (tmp_path / "maps").mkdir()
    leave_temporary(tmp_path / "maps")
    with ThreadPoolExecutor(2) as pool:
        found = [
            pool.submit(label_cache.with_cached_labels, constant, samples, tmp_path / "maps")
            for _ in range(2)
        ]
    assert all(len(future.result()) == 10 for future in found)
    assert 10 <= sum(runs) <= 20
    assert not list((tmp_path / "maps").glob("*.tmp"))
    runs.clear()
    label_cache.with_cached_labels(constant, samples, tmp_path / "maps")
    assert not runs
    assert (cv2.imread(str(tmp_path / "maps" / "3.png"), -1) == 153).all()


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


def test_weights_that_overflow_fill_no_cache(pairs, teacher_file, tmp_path):
    weights = load_checkpoint(teacher_file)
    head = weights["linear2.weight"]
    weights["linear2.weight"] = np.copysign(np.full_like(head, 3e38), head)  # infinity - infinity
    paddle.save(weights, str(tmp_path / "nan.pdparams"))
    useless = teacher.open_teacher(recipe(teacher=tmp_path / "nan.pdparams", teacher_size=64))
    with pytest.raises(InputError, match=r"nan\.pdparams.*not a number"):
        label_cache.with_cached_labels(
            useless, list_pairs(pairs, labelled=False), tmp_path / "maps"
        )
    assert not list((tmp_path / "maps").glob("*.png"))


def test_names_that_are_not_utf_8_have_a_digest():
    first, second = (Sample(stem, Path(stem), None) for stem in ("caf\udce9", "caf\udcea"))
    assert label_cache.set_digest([first]) != label_cache.set_digest([second])
