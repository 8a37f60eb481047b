"""Teachers: .pdparams and ONNX, their own size and normalisation, files that are none."""

import cv2
import numpy as np
import paddle
import pytest

from datasets.sod import list_pairs
from SCFNet import distill
from SCFNet.errors import InputError
from SCFNet.training import label_cache, teacher
from tests.conftest import distill_recipe as recipe
from tests.conftest import save_onnx_teacher as save_onnx


def test_an_onnx_teacher_sees_its_own_normalisation(pairs, tmp_path):
    """With mean 0 and standard deviation 255 its input is RGB in [0, 1], here the map itself."""
    path = save_onnx(tmp_path / "t.onnx")
    knobs = {"teacher": path, "teacher_mean": (0, 0, 0), "teacher_std": (255, 255, 255)}
    sample = list_pairs(pairs, labelled=False)[0]
    image = cv2.cvtColor(cv2.imread(str(sample.image)), cv2.COLOR_BGR2RGB)
    batch = label_cache.decode([sample], tmp_path, 64)[1]
    expected = cv2.resize(image.astype("float32"), (64, 64)).mean(-1) / 255
    found = teacher.open_teacher(recipe(**knobs))
    assert found.size == 64
    np.testing.assert_allclose(found.run(paddle.to_tensor(batch))[0, 0], expected, atol=1e-4)
    found = teacher.open_teacher(recipe(**knobs, teacher_output="logits"))
    logistic = 1 / (1 + np.exp(-expected))
    np.testing.assert_allclose(found.run(paddle.to_tensor(batch))[0, 0], logistic, atol=1e-4)


def test_an_onnx_teacher_of_one_photo_and_another_size(pairs, tmp_path):
    path = save_onnx(tmp_path / "t.onnx", shape=(1, 3, 32, 32))
    found = teacher.open_teacher(recipe(teacher=path))
    batch = label_cache.decode(list_pairs(pairs, labelled=False)[:3], tmp_path, 64)[1]
    with pytest.warns(UserWarning, match="clipped .* if these are logits"):
        maps = found.run(paddle.to_tensor(batch))
    assert found.size == 32 and maps.shape == [3, 1, 64, 64]
    assert distill.distill(recipe(data=pairs, output=tmp_path / "o", teacher=path, epochs=1)) == 0


def test_bad_teachers_are_refused(pairs, tmp_path):
    flat = save_onnx(tmp_path / "flat.onnx", shape=("n", 3))
    grey = save_onnx(tmp_path / "grey.onnx", shape=("n", 1, 64, 64))
    few = tmp_path / "few"
    few.mkdir()
    (few / "1.png").write_bytes((pairs / "mask" / "1.png").read_bytes())
    fixed = save_onnx(tmp_path / "t.onnx")
    for path, more, message in (
        (tmp_path / "none.pdparams", {}, "none.pdparams: cannot be read"),
        (flat, {}, "0 inputs of four dimensions"),
        (grey, {}, r"input photo is .*, not \[N, 3, S, S\]"),
        (fixed, {"teacher_size": 96}, "takes 64 px"),
        (fixed, {"teacher_output_name": "x"}, "has no output x, but map"),
        (fixed, {"teacher_input_name": "x"}, "has no input x"),
        (few, {}, "9 of 10 photos have no map in it: 0, 2, 3"),
    ):
        with pytest.raises(InputError, match=message) as error:
            distill.distill(recipe(data=pairs, output=tmp_path / "out", teacher=path, **more))
        assert "\n" not in str(error.value)
