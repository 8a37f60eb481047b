"""The cache of a teacher's maps: filled by several, refused if it is another's."""

import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import paddle
import pytest

from datasets.sod import Sample, list_pairs
from SCFNet.checkpoint import load_checkpoint
from SCFNet.errors import InputError
from SCFNet.training import label_cache, teacher
from tests.conftest import distill_recipe as recipe
from tests.conftest import leave_temporary, photo, save_onnx_teacher


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
    repeated = label_cache.with_cached_labels(constant, samples + samples[:3], tmp_path / "maps")
    assert len(repeated) == 13 and not runs
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


@pytest.mark.skipif(sys.platform != "linux", reason="needs names that are no text")
def test_names_that_are_not_utf_8_have_a_digest(tmp_path):
    found = set()
    for stem in ("caf\udce9", "caf\udcea"):
        (tmp_path / stem).write_bytes(b"")
        found.add(label_cache.set_digest([Sample(stem, tmp_path / stem, None)]))
    assert len(found) == 2


@pytest.mark.parametrize("change", ["another set", "a replaced photo", "a swap", "a new pixel"])
def test_a_cache_of_other_photos_of_the_same_names_is_refused(tmp_path, change):
    """Copies of the photos elsewhere, with other times, are the same."""
    size, black = (64, 64), np.zeros((64, 64, 3), "uint8")
    for i, name in enumerate(("first", "second")):
        (tmp_path / name).mkdir()
        for k in range(3):
            pixels = photo(k if change != "another set" else k + 3 * i, *size)
            cv2.imwrite(str(tmp_path / name / f"{k}.bmp"), pixels)
    constant = teacher.Teacher(lambda x: paddle.full([len(x), 1, *size], 0.6), 64, {"weights": "x"})

    def fill(name):
        samples = list_pairs(tmp_path / name, labelled=False)
        return label_cache.with_cached_labels(constant, samples, tmp_path / "maps")

    assert len(fill("first")) == 3
    second = tmp_path / "second"
    if change == "a swap":
        (second / "0.bmp").rename(second / "x")
        (second / "1.bmp").rename(second / "0.bmp")
        (second / "x").rename(second / "1.bmp")
    elif change == "a replaced photo":
        cv2.imwrite(str(second / "1.bmp"), black)
    elif change == "a new pixel":
        data = bytearray((second / "1.bmp").read_bytes())
        data[len(data) // 2] ^= 64
        (second / "1.bmp").write_bytes(data)
    else:
        shutil.copytree(tmp_path / "first", tmp_path / "copy")
        os.utime(tmp_path / "copy" / "0.bmp", (1, 1))
        assert len(fill("copy")) == 3
    with pytest.raises(InputError, match="maps: was filled with other photos"):
        fill("second")
