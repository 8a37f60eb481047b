"""tools/distill.py: every kind of teacher, online and cached, killed and resumed, bad input."""

import json
import random
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import onnx
import paddle
import pytest
from onnx import TensorProto, helper

from datasets.files import InputError
from datasets.sod import list_pairs
from SCFNet import distill, engine
from SCFNet.benchmarks import distill as bench_distill
from SCFNet.checkpoint import load_checkpoint, save_weights
from SCFNet.net import SCFNet
from SCFNet.training import label_cache, teacher
from SCFNet.training import state as training_run
from SCFNet.training.recipe import DistillRecipe, parse
from tests.test_train import FLAGS, STEP, run_until, start, write_pairs
from tests.test_train import recipe as train_recipe

TOOL = str(Path(__file__).parents[1] / "tools" / "distill.py")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A teacher file whose maps are not constant: BatchNorm's statistics are those of photos."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.pdparams"
    paddle.set_device("cpu")
    paddle.seed(3)
    net = SCFNet(backbone="M3_0.5")
    rng = np.random.default_rng(0)
    for _ in range(20):
        net(paddle.to_tensor(rng.standard_normal((2, 3, 64, 64), "float32")))
    save_weights(net, path)
    return path


def recipe(data, output, flags):
    return parse(DistillRecipe, "", f"{FLAGS} --data {data} --output {output} {flags}".split())


def save_onnx(path, shape=("n", 3, 64, 64)):
    """An .onnx teacher: the mean of the three channels, as [N, 1, H, W]."""
    node = helper.make_node("ReduceMean", ["photo"], ["map"], axes=[1], keepdims=1)
    graph = helper.make_graph(
        [node],
        "teacher",
        [helper.make_tensor_value_info("photo", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return path


def losses(printed):
    return np.array(
        [[float(x) for x in re.findall(r"\d+\.\d+", text)] for _, text in STEP.findall(printed)]
    )


def test_online_and_cached_losses_are_equal_without_augmentation(data, network, tmp_path, capsys):
    flags = f"--teacher {network} --epochs 3 --augment none --sizes 96 --teacher-size 96"
    flags += " --batch-size 5 --lr 0.001"  # steps that do not blow up the rounding to 8 bits
    found = []
    for name, more in (("online", ""), ("cached", f" --cache-labels {tmp_path / 'maps'}")):
        assert distill.distill(recipe(data, tmp_path / name, flags + more)) == 0
        found.append(losses(capsys.readouterr().out))
    assert found[0].shape == (6, 5)
    np.testing.assert_allclose(found[0], found[1], atol=1e-3)
    maps = sorted((tmp_path / "maps").glob("*.png"))
    assert len(maps) == 10 and cv2.imread(str(maps[0]), -1).shape == (96, 96)


def test_the_log_shows_how_the_student_agrees(data, network, tmp_path):
    flags = f"--teacher {network} --epochs 1 --val {data} --val-size 64"
    assert distill.distill(recipe(data / "image", tmp_path / "out", flags)) == 0
    record = json.loads((tmp_path / "out" / training_run.LOG).read_text())
    assert {"MAE", "Max-F", "teacher-MAE", "teacher-Max-F"} <= set(record)
    flags = f"--teacher {network} --epochs 1 --val-fraction 0.2 --val-size 64"
    assert distill.distill(recipe(data, tmp_path / "held", flags)) == 0
    record = json.loads((tmp_path / "held" / training_run.LOG).read_text())
    assert "teacher-MAE" in record and "MAE" not in record
    assert len(list((tmp_path / "held" / "teacher-maps").glob("*.png"))) == 2


def test_an_onnx_teacher_sees_its_own_normalisation(data, tmp_path):
    """With mean 0 and standard deviation 255 its input is RGB in [0, 1], here the map itself."""
    flags = "--teacher-mean 0 0 0 --teacher-std 255 255 255 --sizes 64"
    path = save_onnx(tmp_path / "t.onnx")
    sample = list_pairs(data, labelled=False)[0]
    image = cv2.cvtColor(cv2.imread(str(sample.image)), cv2.COLOR_BGR2RGB)
    batch = label_cache.decode([sample], tmp_path, 64).batch
    expected = cv2.resize(image, (64, 64)).mean(-1) / 255
    found = teacher.open_teacher(recipe(data, tmp_path / "o", f"--teacher {path} {flags}"))
    assert found.size == 64
    np.testing.assert_allclose(found.run(paddle.to_tensor(batch))[0, 0], expected, atol=1e-4)
    flags += " --teacher-output logits"
    found = teacher.open_teacher(recipe(data, tmp_path / "o", f"--teacher {path} {flags}"))
    logistic = 1 / (1 + np.exp(-expected))
    np.testing.assert_allclose(found.run(paddle.to_tensor(batch))[0, 0], logistic, atol=1e-4)


def test_an_onnx_teacher_of_one_photo_and_another_size(data, tmp_path):
    path = save_onnx(tmp_path / "t.onnx", shape=(1, 3, 32, 32))
    found = teacher.open_teacher(recipe(data, tmp_path / "o", f"--teacher {path}"))
    batch = label_cache.decode(list_pairs(data, labelled=False)[:3], tmp_path, 64).batch
    assert found.size == 32 and found.run(paddle.to_tensor(batch)).shape == [3, 1, 64, 64]
    assert distill.distill(recipe(data, tmp_path / "o", f"--teacher {path} --epochs 1")) == 0


def test_a_folder_of_maps_teaches(data, network, tmp_path, capsys):
    """Here the true masks are the maps: the losses are those of training with Dice."""
    flags = "--epochs 1 --sizes 64"
    assert distill.distill(recipe(data, tmp_path / "a", f"{flags} --teacher {data / 'mask'}")) == 0
    distilled = capsys.readouterr().out
    engine.train(train_recipe(data, tmp_path / "b", f"{flags} --loss dice"))
    np.testing.assert_array_equal(losses(distilled), losses(capsys.readouterr().out))


def test_killed_while_caching_and_while_training(data, network, tmp_path, capsys):
    common = f"{FLAGS} --data {data} --teacher {network} --epochs 2 --teacher-size 64"
    whole = f"{common} --output {tmp_path / 'whole'} --cache-labels {tmp_path / 'maps'}"
    assert distill.distill(parse(DistillRecipe, "", whole.split())) == 0
    expected = dict(STEP.findall(capsys.readouterr().out))

    # killed while caching: what is there stays, and is not made again
    cut = tmp_path / "cut-maps"
    cut.mkdir()
    for path in [
        tmp_path / "maps" / label_cache.MANIFEST,
        *sorted((tmp_path / "maps").glob("*.png"))[:6],
    ]:
        (cut / path.name).write_bytes(path.read_bytes())
    before = {path: path.stat().st_mtime_ns for path in cut.glob("*.png")}

    flags = f"{common} --output {tmp_path / 'cut'} --cache-labels {cut} --save-every 1".split()
    killed = start(*flags, "--resume", "auto", tool=TOOL)
    found = run_until(killed, random.randint(1, 5), signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    ended = start(*flags, "--resume", "auto", tool=TOOL)
    found.update(run_until(ended, 99, signal.SIGKILL))
    assert ended.wait() == 0
    assert {str(step): text for step, text in found.items()} == expected
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    for path in (tmp_path / "maps").glob("*.png"):
        np.testing.assert_allclose(
            cv2.imread(str(path), -1).astype(int), cv2.imread(str(cut / path.name), -1), atol=1
        )


def test_unreadable_photos_are_listed_and_skipped_only_if_asked(network, tmp_path, capsys):
    data = write_pairs(tmp_path / "data")
    (data / "image" / "3.jpg").write_bytes(b"not a photo")
    flags = f"--teacher {network} --dry-run"
    with pytest.raises(InputError, match=r"1 photos \(--skip-unreadable .*3.jpg"):
        distill.distill(recipe(data, tmp_path / "o", flags))
    assert distill.distill(recipe(data, tmp_path / "o", f"{flags} --skip-unreadable")) == 0
    assert capsys.readouterr().out.count("3.jpg") == 1


def test_photos_at_any_depth_are_found(data, network, tmp_path):
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep.parent / "1.jpg").write_bytes((data / "image" / "1.jpg").read_bytes())
    (deep / "2.jpg").write_bytes((data / "image" / "2.jpg").read_bytes())
    maps = tmp_path / "maps"
    flags = f"--teacher {network} --epochs 1 --cache-labels {maps}"
    assert distill.distill(recipe(tmp_path / "a", tmp_path / "o", flags)) == 0
    assert (maps / "1.png").exists() and (maps / "b" / "2.png").exists()


def test_bad_teachers_are_refused(data, network, tmp_path):
    hostile = tmp_path / "hostile.pdparams"
    hostile.write_bytes(b"cos\nsystem\n(S'touch /tmp/owned'\ntR.")
    flat = save_onnx(tmp_path / "flat.onnx", shape=("n", 3))
    grey = save_onnx(tmp_path / "grey.onnx", shape=("n", 1, 64, 64))
    text = tmp_path / "text.onnx"
    text.write_text("hello")
    few = tmp_path / "few"
    few.mkdir()
    (few / "1.png").write_bytes((data / "mask" / "1.png").read_bytes())
    fixed = save_onnx(tmp_path / "t.onnx")
    for flags, message in (
        ("", "--teacher: name a"),
        (f"--teacher {tmp_path / 'none.pdparams'}", "none.pdparams: cannot be read"),
        (f"--teacher {hostile}", "refused"),
        (f"--teacher {text}", "not an ONNX file"),
        (f"--teacher {flat}", "0 inputs of four dimensions"),
        (f"--teacher {grey}", r"input photo is .*, not \[N, 3, S, S\]"),
        (f"--teacher {fixed} --teacher-size 96", "its input is 64 px"),
        (f"--teacher {fixed} --teacher-output-name x", "has no output x, but map"),
        (f"--teacher {fixed} --teacher-input-name x", "has no input x"),
        (f"--teacher {few}", "9 of 10 photos have no map in it: 0, 2, 3"),
    ):
        with pytest.raises(InputError, match=message) as error:
            distill.distill(recipe(data, tmp_path / "out", flags))
        assert "\n" not in str(error.value)


def test_a_cache_for_another_teacher_size_or_set_is_refused(data, network, tmp_path):
    maps, other = tmp_path / "maps", tmp_path / "other.pdparams"
    samples = list_pairs(data, labelled=False)
    opened = teacher.open_teacher(recipe(data, tmp_path, f"--teacher {network} --teacher-size 64"))
    assert len(label_cache.with_cached_labels(opened, samples[:3], maps)) == 3
    with pytest.raises(InputError, match="filled with other photos"):
        label_cache.with_cached_labels(opened, samples, maps)
    opened.size = 96
    with pytest.raises(InputError, match="filled with other size"):
        label_cache.with_cached_labels(opened, samples[:3], maps)
    state = load_checkpoint(network)
    state["linear2.bias"] = state["linear2.bias"] + 1
    paddle.save(state, str(other))
    opened = teacher.open_teacher(recipe(data, tmp_path, f"--teacher {other} --teacher-size 64"))
    with pytest.raises(InputError, match="filled with other weights"):
        label_cache.with_cached_labels(opened, samples[:3], maps)
    (maps / label_cache.MANIFEST).unlink()
    with pytest.raises(InputError, match="holds files, but no"):
        label_cache.with_cached_labels(opened, samples[:3], maps)


def test_two_fill_one_cache(data, tmp_path):
    """Both end with all maps, and neither makes those that the other has made."""
    runs = []

    def run(images):
        runs.append(len(images))
        return paddle.full([len(images), 1, 64, 64], 0.6)

    samples = list_pairs(data, labelled=False)
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


def test_the_benchmark_compares_like_with_like():
    rows = bench_distill.compare(rounds=1, backbone="M3_0.5")
    assert [row["compared with"] for row in rows] == [
        "of training, dice",
        "of training, dice",
        "of the teacher alone",
    ]
    assert all(row["ratio"] > 0.2 for row in rows)
    assert rows[1]["ms an image"] > rows[0]["ms an image"]  # the teacher runs beside the student
