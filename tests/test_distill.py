"""tools/distill.py: every kind of teacher, online and cached, killed and resumed."""

import json
import random
import shutil
import signal

import cv2
import numpy as np
import paddle
import pytest

from datasets.loader import Epoch, load_batch
from datasets.maps import join_maps
from datasets.sod import Sample, list_pairs
from SCFNet import distill, engine
from SCFNet.checkpoint import save_weights
from SCFNet.errors import InputError
from SCFNet.predictor import Predictor
from SCFNet.training import label_cache, state
from SCFNet.training.teacher import open_teacher
from SCFNet.zoo import build_network
from tests.conftest import (
    STEP,
    as_flags,
    distill_recipe,
    fault_of,
    losses_in,
    recipe,
    run_until,
    start_tool,
    write_pairs,
)
from tests.steps import skim


@pytest.mark.slow
def test_online_and_cached_losses_are_equal_without_augmentation(
    pairs, teacher_file, tmp_path, capsys
):
    knobs = {"data": pairs, "teacher": teacher_file, "sizes": 96, "teacher_size": 96}
    knobs.update(epochs=3, augment="none", batch_size=5)
    knobs["lr"] = 0.001  # steps that do not blow up the rounding to 8 bits
    found = []
    for name, more in (("online", {}), ("cached", {"cache_labels": tmp_path / "maps"})):
        assert distill.distill(distill_recipe(**knobs, output=tmp_path / name, **more)) == 0
        found.append(losses_in(capsys.readouterr().out))
    assert found[0].shape == (6, 5)
    np.testing.assert_allclose(found[0], found[1], atol=1e-3)
    maps = sorted((tmp_path / "maps").glob("*.png"))
    assert len(maps) == 10 and cv2.imread(str(maps[0]), -1).shape == (96, 96)


def test_the_log_shows_how_the_student_agrees(pairs, teacher_file, tmp_path, monkeypatch):
    skim(monkeypatch)
    knobs = {"teacher": teacher_file, "epochs": 1, "val_size": 64}
    out, held = tmp_path / "out", tmp_path / "held"
    scored = distill_recipe(**knobs, data=pairs / "image", output=out, val=pairs)
    assert distill.distill(scored) == 0
    record = json.loads((out / state.LOG).read_text())
    assert {"MAE", "Max-F", "teacher-MAE", "teacher-Max-F"} <= set(record)
    scored = distill_recipe(**knobs, data=pairs, output=held, val_fraction=0.2)
    assert distill.distill(scored) == 0
    record = json.loads((held / state.LOG).read_text())
    assert "teacher-MAE" in record and "MAE" not in record
    assert len(list((held / "teacher-maps").glob("*.png"))) == 2


def test_a_folder_of_maps_teaches(pairs, tmp_path, capsys):
    """Here the true masks are the maps: the losses are those of training with Dice."""
    knobs = {"data": pairs, "epochs": 1, "sizes": 64, "batch_size": 10}
    cache = {"cache_labels": tmp_path / "maps"}
    towards_maps = distill_recipe(**knobs, **cache, output=tmp_path / "a", teacher=pairs / "mask")
    assert distill.distill(towards_maps) == 0
    distilled = capsys.readouterr().out
    assert "--cache-labels: not used" in distilled and not (tmp_path / "maps").exists()
    assert engine.train(recipe(**knobs, output=tmp_path / "b", loss="dice")) == 0
    np.testing.assert_array_equal(losses_in(distilled), losses_in(capsys.readouterr().out))


def soft_maps(pairs, folder, seed):
    """A folder of soft maps of other sizes than the photos, around the masks of `pairs`."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    for path in sorted((pairs / "mask").iterdir()):
        noise = rng.uniform(-90, 90, (40, 45)).astype("float32")
        grey = cv2.resize(cv2.imread(str(path), 0), (45, 40)).astype("float32")
        cv2.imwrite(str(folder / path.name), (0.6 * grey + 50 + noise).clip(0, 255).astype("uint8"))
    return folder


def test_several_folders_of_maps_teach_as_one(pairs, tmp_path, capsys):
    """The losses are those of one folder, into which their joined maps were written."""
    folders = [soft_maps(pairs, tmp_path / name, seed) for seed, name in enumerate("abc")]
    (tmp_path / "joined").mkdir()
    for path in folders[0].iterdir():
        maps = [cv2.imread(str(folder / path.name), 0) for folder in folders]
        cv2.imwrite(str(tmp_path / "joined" / path.name), (join_maps(maps) * 257).astype("uint16"))
    knobs = {"data": pairs, "epochs": 1, "sizes": 64, "batch_size": 5, "val_fraction": 0.2}
    losses, scores = [], []
    for name, teacher in (("1", folders), ("2", tmp_path / "joined"), ("3", folders[0])):
        run = distill_recipe(**knobs, output=tmp_path / name, teacher=teacher)
        assert distill.distill(run) == 0
        losses.append(losses_in(capsys.readouterr().out))
        scores.append(json.loads((tmp_path / name / state.LOG).read_text())["teacher-MAE"])
    np.testing.assert_allclose(losses[0], losses[1], atol=1e-3)
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)
    assert abs(losses[0] - losses[2]).max() > 0.01 and abs(scores[0] - scores[2]) > 0.01


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda folder: "small", "small: is no folder: several teachers are folders of maps"),
        (lambda folder: (folder / "3.png").unlink(), "b: 1 of 10 photos have no map in it: 3"),
        (lambda folder: (folder / "3.png").write_bytes(b""), "b/3.png"),
        (
            lambda folder: cv2.imwrite(str(folder / "3.png"), np.full((45, 40), 9, "uint8")),
            "b/3.png: is 40x45 for a picture of 72x64: turn it",
        ),
    ],
)
def test_each_of_several_teachers_is_checked(pairs, tmp_path, spoil, fault):
    folders = [soft_maps(pairs, tmp_path / name, seed) for seed, name in enumerate("ab")]
    knobs = {"data": pairs, "output": tmp_path / "out", "teacher": folders}
    other = spoil(folders[1])
    if other == "small":
        knobs["teacher"] = [folders[0], other]
    assert fault in fault_of("distill", *as_flags(**knobs))
    assert not (tmp_path / "out").exists()


def test_masks_teach_beside_a_teacher(pairs, teacher_file, tmp_path):
    """A batch's target is the teacher's map for photos, and the mask for labelled ones."""
    photos = [sample._replace(mask=None) for sample in list_pairs(pairs)[:5]]
    samples = photos + list_pairs(pairs)[5:]
    opened = open_teacher(distill_recipe(teacher=teacher_file))
    batch = load_batch(Epoch(samples, [64], 10), range(10), 64)
    images, masks = map(paddle.to_tensor, batch[:2])
    target = distill.taught_by(opened)(images, masks, images)
    np.testing.assert_array_equal(target[:5].numpy(), opened.run(images)[:5].numpy())
    np.testing.assert_array_equal(target[5:].numpy(), masks[5:].numpy())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["U2Netp", "ST"])
def test_a_teacher_with_a_size_of_its_own_says_what_it_predicts(tmp_path, name):
    """It sees the photo at its size, not the student's smaller batch."""
    net = build_network(name)
    save_weights(net, tmp_path / "t.pdparams")
    side = net.input_size
    photo = np.random.default_rng(0).integers(0, 256, (side, side, 3), "uint8")
    cv2.imwrite(str(tmp_path / "a.png"), photo[..., ::-1])
    opened = open_teacher(distill_recipe(teacher=tmp_path / "t.pdparams"))
    epoch = Epoch([Sample("a", tmp_path / "a.png", None)], [64], 1, 0, 0, None, opened.size)
    images, _, seen = load_batch(epoch, [0], 64)
    target = distill.taught_by(opened)(paddle.to_tensor(images), None, paddle.to_tensor(seen))
    expected = cv2.resize(Predictor(tmp_path / "t.pdparams", device="cpu")(photo), (64, 64))
    np.testing.assert_allclose(target.numpy()[0, 0], expected, atol=1e-4)


def test_maps_of_any_depth_and_a_common_suffix_teach_alike(pairs, tmp_path):
    """A single map, as one that is held back, is on the scale of its folder, too."""
    samples = list_pairs(pairs / "image", labelled=False)
    for folder in ("8 bits", "to 1000 of 16 bits"):
        (tmp_path / folder).mkdir()
    for i, path in enumerate(sorted((pairs / "mask").iterdir())):
        pixels = cv2.imread(str(path), -1) // (1 if i else 5)
        cv2.imwrite(str(tmp_path / "8 bits" / path.name), pixels)
        named = tmp_path / "to 1000 of 16 bits" / f"{path.stem}_sal.png"
        cv2.imwrite(str(named), pixels.astype("uint16") * 4)
    masks = []
    for folder in sorted(tmp_path.iterdir()):
        labelled = label_cache.labelled_from(samples, [folder])
        assert label_cache.labelled_from(samples[:1], [folder]) == labelled[:1]
        masks.append(load_batch(Epoch(labelled, [64], 10), range(10), 64).masks)
    np.testing.assert_allclose(masks[0], masks[1], atol=5e-3)


def test_maps_are_matched_before_one_photo_is_held_back(pairs, tmp_path, monkeypatch, capsys):
    """img_3.jpg and mask_3.png belong together as others are named alike: one has no others."""
    skim(monkeypatch)
    for kind, word in (("image", "img"), ("mask", "mask")):
        (tmp_path / kind).mkdir()
        for path in (pairs / kind).iterdir():
            shutil.copy(path, tmp_path / kind / f"{word}_{path.name}")
    knobs = {"data": tmp_path / "image", "teacher": tmp_path / "mask", "output": tmp_path / "out"}
    assert distill.distill(distill_recipe(**knobs, epochs=1, val_fraction=0.1)) == 0
    assert "teacher-MAE" in (tmp_path / "out" / state.LOG).read_text()
    assert capsys.readouterr().out.count("maps are matched as mask_*") == 1


def test_maps_alone_cannot_be_compared_on_other_photos(pairs, tmp_path):
    knobs = {"data": pairs, "output": tmp_path / "out", "teacher": pairs / "mask"}
    fault = fault_of("distill", *as_flags(**knobs, val=pairs / "image"))
    assert "image: has no folder mask/" in fault
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda path, grey: cv2.imwrite(path, grey * 0), "all of its maps are black"),
        (lambda path, grey: cv2.imwrite(path, cv2.applyColorMap(grey, 16)), "is a colour picture"),
    ],
)
def test_maps_that_teach_nothing_are_refused_before_a_run_writes(pairs, tmp_path, spoil, fault):
    (tmp_path / "maps").mkdir()
    for path in (pairs / "mask").iterdir():
        spoil(str(tmp_path / "maps" / path.name), cv2.imread(str(path), 0))
    knobs = {"data": pairs, "output": tmp_path / "out", "teacher": tmp_path / "maps"}
    assert fault in fault_of("distill", *as_flags(**knobs))
    assert not (tmp_path / "out").exists()


def test_a_folder_without_photos_is_not_asked_for_masks(teacher_file, tmp_path):
    (tmp_path / "empty").mkdir()
    for kind in ("missing", "empty"):
        with pytest.raises(InputError, match=f"{kind}: .*a folder of photos") as error:
            distill.distill(distill_recipe(data=tmp_path / kind, teacher=teacher_file))
        assert "mask/" not in str(error.value)


@pytest.mark.parametrize("way", ["online", "maps"])
def test_a_run_of_photos_and_labelled_pairs(pairs, teacher_file, tmp_path, way):
    knobs = {"data": pairs / "image", "labelled": write_pairs(tmp_path / "more", 3), "epochs": 1}
    knobs.update(output=tmp_path / "out", copy_paste=1.0, loss="bce+dice", batch_size=7)
    knobs["teacher"] = teacher_file if way == "online" else pairs / "mask"
    assert distill.distill(distill_recipe(**knobs)) == 0
    record = json.loads((tmp_path / "out" / state.LOG).read_text())
    assert record["step"] == 2 and np.isfinite(record["loss"])  # 13 photos in batches of 7


@pytest.mark.slow
def test_killed_while_caching_and_while_training(pairs, teacher_file, tmp_path, capsys):
    knobs = {"data": pairs, "teacher": teacher_file, "epochs": 2, "teacher_size": 64}
    whole, maps = tmp_path / "whole", tmp_path / "maps"
    assert distill.distill(distill_recipe(**knobs, output=whole, cache_labels=maps)) == 0
    expected = dict(STEP.findall(capsys.readouterr().out))

    # killed while caching: what is there stays, and is not made again
    cut = tmp_path / "cut-maps"
    cut.mkdir()
    for path in [maps / label_cache.MANIFEST, *sorted(maps.glob("*.png"))[:6]]:
        (cut / path.name).write_bytes(path.read_bytes())
    before = {path: path.stat().st_mtime_ns for path in cut.glob("*.png")}

    knobs.update(output=tmp_path / "cut", cache_labels=cut, save_every=1, resume="auto")
    killed = start_tool("distill", *as_flags(**knobs))
    found = run_until(killed, random.randint(1, 3), signal.SIGKILL)  # of 6: it may come late
    assert killed.wait() == -signal.SIGKILL
    ended = start_tool("distill", *as_flags(**knobs))
    found.update(run_until(ended, 99, signal.SIGKILL))
    assert ended.wait() == 0
    assert {str(step): text for step, text in found.items()} == expected
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    for path in maps.glob("*.png"):
        np.testing.assert_allclose(
            cv2.imread(str(path), -1).astype(int), cv2.imread(str(cut / path.name), -1), atol=1
        )


def test_unreadable_photos_are_listed_and_skipped_only_if_asked(
    teacher_file, tmp_path, capsys, monkeypatch
):
    skim(monkeypatch)
    data = write_pairs(tmp_path / "data")
    (data / "image" / "3.jpg").write_bytes(b"not a photo")
    knobs = {"data": data, "output": tmp_path / "o", "teacher": teacher_file, "dry_run": True}
    with pytest.raises(InputError, match=r"1 faults \(--skip-unreadable .*3.jpg"):
        distill.distill(distill_recipe(**knobs))
    assert distill.distill(distill_recipe(**knobs, skip_unreadable=True)) == 0
    assert capsys.readouterr().out.count("3.jpg") == 1


def test_photos_at_any_depth_are_found(pairs, teacher_file, tmp_path):
    for place in ("a/1.jpg", "a/b/2.jpg"):
        (tmp_path / place).parent.mkdir(parents=True)
        shutil.copy(pairs / "image" / "1.jpg", tmp_path / place)
    opened = open_teacher(distill_recipe(teacher=teacher_file, teacher_size=64))
    samples = list_pairs(tmp_path / "a", labelled=False)
    label_cache.with_cached_labels(opened, samples, tmp_path / "maps")
    assert (tmp_path / "maps/1.png").exists() and (tmp_path / "maps/b/2.png").exists()
