"""Which files are predicted, and what results are called: nothing is lost or forgotten."""

import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from SCFNet.files import write_atomically
from SCFNet.photos.opening import count_pictures
from SCFNet.photos.reading import read_photo
from SCFNet.photos.writing import write_png
from SCFNet.prediction.encoding import encode_result
from SCFNet.prediction.inputs import Found, describe, find_inputs
from SCFNet.prediction.jobs import has_results, in_shard, plan_jobs
from SCFNet.prediction.marks import is_result, mark_of, read_mark
from SCFNet.prediction.rendering import ENDINGS


@pytest.fixture
def photos(tmp_path):
    """Photos that would overwrite each other's results, in a tree."""
    folder = tmp_path / "photos"
    for i, name in enumerate(("a.jpg", "a.png", "b.png", "day/a.png", "day/x.jpg", "x-cutout.png")):
        save_photo(folder / name, 20 + i)
    (folder / "notes.txt").write_text("not a photo")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


def save_photo(path, width=20):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, 16), (80, 120, 5 * width)).save(path)
    return path


def targets(inputs, output, kinds=("mask",), keep=()):
    jobs = plan_jobs([str(i) for i in inputs], output, [ENDINGS[kind] for kind in kinds], keep)
    return {str(job.source): [str(t.relative_to(output)) for t in job.targets] for job in jobs}


def write_results(inputs, output, *kinds):
    """What a run does: write each result that is not there, with its mark; how many inputs."""
    endings = [ENDINGS[kind] for kind in kinds]
    jobs = [j for j in plan_jobs(list(map(str, inputs)), output, endings) if not has_results(j)]
    for job in jobs:
        for target in job.targets:
            picture = np.zeros((4, 4), "uint8")
            encoded = encode_result(target, picture, mark_of(job.source), dpi=None)
            write_atomically(target, encoded)
    return len(jobs)


def test_a_folder_keeps_its_tree_and_no_result_is_taken_twice(photos, tmp_path):
    planned = targets([photos], tmp_path / "out", ["mask", "cutout"])
    assert planned == {
        f"{photos}/a.jpg": ["a.jpg.png", "a.jpg-cutout.png"],
        f"{photos}/a.png": ["a.png.png", "a.png-cutout.png"],
        f"{photos}/b.png": ["b.png", "b-cutout.png"],
        f"{photos}/day/a.png": ["day/a.png", "day/a-cutout.png"],
        f"{photos}/day/x.jpg": ["day/x.png", "day/x-cutout.png"],
        f"{photos}/x-cutout.png": ["x-cutout.png", "x-cutout-cutout.png"],
    }


def test_a_name_does_not_depend_on_what_else_is_predicted(photos, tmp_path):
    every = targets([photos], tmp_path / "out")
    for source, names in every.items():
        if Path(source).parent == photos:
            assert targets([source], tmp_path / "out") == {source: names}


def test_the_same_stem_from_different_folders(photos, tmp_path):
    save_photo(tmp_path / "other" / "x.jpg")
    planned = targets([photos / "day/x.jpg", tmp_path / "other/x.jpg"], tmp_path / "out")
    assert sorted(t for ts in planned.values() for t in ts) == ["day/x.jpg.png", "other/x.jpg.png"]


def test_names_that_differ_in_case_alone(tmp_path):
    for name in ("A.png", "a.png", "a.PNG"):
        save_photo(tmp_path / "in" / name)
    planned = targets([tmp_path / "in"], tmp_path / "out").values()
    assert len({names[0].casefold() for names in planned}) == len(list((tmp_path / "in").iterdir()))


def test_the_same_file_twice_is_one_job(photos, tmp_path):
    (tmp_path / "link").symlink_to(photos)
    inputs = [photos / "b.png", photos / "day" / ".." / "b.png", photos / "b*"]
    assert len(targets([*inputs, tmp_path / "link" / "b.png"], tmp_path / "out")) == 1


@pytest.mark.parametrize(
    ("inputs", "output"),
    [
        (["real/b.png"], "real"),
        (["real"], "real"),
        (["link/b.png"], "real"),
        (["link"], "real"),
        (["real/b.png"], "link"),
        (["real/*.png"], "link"),
        (["one"], "real"),  # a link to the photo
        (["hard"], "real"),
        (["real/b.png"], "one"),
        (["real/b.png"], "hard"),
        (["tree"], "tree"),  # a folder of the tree is a link to the photo's
    ],
)
def test_an_input_is_never_overwritten(tmp_path, monkeypatch, inputs, output):
    monkeypatch.chdir(tmp_path)
    photo = save_photo(Path("real/b.png"))
    Path("link").symlink_to("real")
    for name in ("one", "hard", "tree"):
        Path(name).mkdir()
    Path("one/b.png").symlink_to("../real/b.png")
    os.link(photo, "hard/b.png")
    Path("tree/day").symlink_to("../real")
    before = {p: p.read_bytes() for p in Path().glob("*/**/b.png")}
    assert write_results(inputs, Path(output), "mask") == 1
    assert {p: p.read_bytes() for p in before} == before
    assert Path("one/b.png").is_symlink() and photo.samefile("hard/b.png")
    assert write_results(inputs, Path(output), "mask") == 0


def test_a_stem_that_is_anothers_cutout(tmp_path):
    planned = targets(["x.jpg", "x-cutout.jpg"], tmp_path, ["mask", "cutout"])
    assert planned["x.jpg"] == ["x.jpg.png", "x.jpg-cutout.png"]
    assert planned["x-cutout.jpg"] == ["x-cutout.jpg.png", "x-cutout.jpg-cutout.png"]


def test_a_picture_beside_the_input_is_not_overwritten(tmp_path):
    for name in ("a.jpg", "a.png", "x.jpg", "x-cutout.png"):
        save_photo(tmp_path / name)
    planned = targets([tmp_path / "a.jpg", tmp_path / "x.jpg"], tmp_path, ["cutout"])
    assert planned[f"{tmp_path}/x.jpg"] == ["x.jpg-cutout.png"]
    assert targets([tmp_path / "a.jpg"], tmp_path) == {f"{tmp_path}/a.jpg": ["a.jpg.png"]}


def test_a_background_is_not_overwritten(photos, tmp_path):
    back = save_photo(tmp_path / "out" / "b.png")
    planned = targets([photos / "b.png"], tmp_path / "out", keep=[back])
    assert planned == {f"{photos}/b.png": ["b.png.png"]}


@pytest.mark.parametrize("names", [("a.jpg", "b.jpg"), ("a.png", "b.png"), ("a.jpg", "a.png")])
def test_results_beside_the_photos_are_no_photos(tmp_path, names):
    folder = tmp_path / "same"
    for name in names:
        save_photo(folder / name)
    (tmp_path / "link").symlink_to(folder)
    done = [write_results([folder], folder, "mask", "overlay") for _ in range(3)]
    assert done == [2, 0, 0]
    assert write_results([tmp_path / "link"], folder, "mask") == 0
    assert write_results([folder], tmp_path / "link", "mask") == 0
    assert write_results([folder / "*.*"], folder, "mask") == 0
    assert write_results([folder], folder, "cutout") == 2
    assert write_results([folder], tmp_path / "elsewhere", "mask") == 2
    found, left_out = find_inputs([str(folder)], tmp_path)
    assert len(found) == 2 and left_out == {"results of earlier runs": 6}


def test_results_in_a_folder_of_the_photos(photos):
    photos.joinpath("x-cutout.png").unlink()
    assert write_results([photos], photos / "first", "mask") == 5
    assert write_results([photos], photos / "first", "mask") == 0
    assert write_results([photos], photos / "second", "mask") == 5


def test_the_result_of_another_photo_is_none(tmp_path):
    save_photo(tmp_path / "x" / "a.jpg", 20)
    save_photo(tmp_path / "y" / "a.jpg", 300)
    output = tmp_path / "out"
    assert write_results([tmp_path / "x/a.jpg"], output, "mask") == 1
    assert write_results([tmp_path / "y/a.jpg"], output, "mask") == 1
    assert write_results([tmp_path / "y/a.jpg"], output, "mask") == 0
    write_png(output / "a.png", np.zeros((2, 2), "uint8"))  # from elsewhere: it counts
    assert write_results([tmp_path / "y/a.jpg"], output, "mask") == 0


@pytest.mark.parametrize(
    ("found", "wanted", "counts"),
    [("0" * 16, "0" * 16, True), ("0" * 16, "1" * 16, False), ("", "0" * 16, True)],
)
def test_a_result_of_other_weights_or_settings_is_none(tmp_path, found, wanted, counts):
    """One whose mark does not say by which it was made counts."""
    (job,) = plan_jobs([str(save_photo(tmp_path / "a.jpg"))], tmp_path, [".png"])
    (target,) = job.targets
    mark = mark_of(job.source, found)
    write_atomically(target, encode_result(target, np.zeros((2, 2), "uint8"), mark, None))
    assert is_result(target) and read_mark(target) == mark
    assert has_results(job._replace(made_by=wanted)) == counts


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 3), (80, 90, 3)])
@pytest.mark.parametrize("dpi", [None, (300, 300), (72, 144)])
def test_marks_and_the_resolution_are_read_and_cost_no_pixel(tmp_path, suffix, shape, dpi):
    source = save_photo(tmp_path / "photo.jpg")
    image = np.full(shape, 77, "uint8")
    result = tmp_path / f"result{suffix}"
    result.write_bytes(encode_result(result, image, mark_of(source), dpi))
    assert read_mark(result) == mark_of(source) and is_result(result)
    assert read_photo(result).dpi == dpi or (dpi is None and suffix == ".jpg")
    with Image.open(result) as opened:
        opened.load()
        grey = opened.convert("L") if len(shape) == 2 else opened
        np.testing.assert_array_equal(np.asarray(grey), image)
    assert not is_result(source) and not is_result(tmp_path / "gone.png")


def test_patterns_are_matched_at_any_depth(photos, tmp_path):
    planned = targets([f"{photos}/**/a.*"], tmp_path / "out")
    assert planned == {
        f"{photos}/a.jpg": ["a.jpg.png"],
        f"{photos}/a.png": ["a.png.png"],
        f"{photos}/day/a.png": ["day/a.png"],
    }
    bracket = photos / "c[1].png"
    shutil.copy(photos / "b.png", bracket)
    assert set(targets([bracket], tmp_path / "out")) == {str(bracket)}


@pytest.mark.parametrize(
    ("files", "pattern", "expected"),
    [
        (["x [2020]/a.jpg", "x [2020]/b.jpg"], "x [2020]/*.jpg", ["a.png", "b.png"]),
        (["x [2020]/a.jpg", "x 2/c.jpg"], "x [2020]/*.jpg", ["a.png"]),
        (["[a] b/c/d.jpg"], "[a] b/**/*.jpg", ["c/d.png"]),
        (["1/x [b]/a.jpg", "2/x [b]/a.jpg"], "*/x [b]/a.jpg", ["1/x [b]/a.png", "2/x [b]/a.png"]),
        (["a[1].jpg", "a[2].jpg"], "a[?].jpg", ["a[1].png", "a[2].png"]),
        (["a1.jpg", "a2.jpg", "a3.jpg"], "a[12].jpg", ["a1.png", "a2.png"]),
    ],
)
def test_brackets_that_are_there_are_no_pattern(tmp_path, files, pattern, expected):
    for file in files:
        save_photo(tmp_path / "in" / file)
    for start in (tmp_path / "in", os.path.relpath(tmp_path / "in")):
        found = targets([f"{start}/{pattern}"], tmp_path / "out")
        assert sorted(name for names in found.values() for name in names) == expected


@pytest.mark.parametrize("inputs", ["{}", "{}/**/*.jpg", "{}/*"])
def test_folders_of_a_system_count_for_nothing(tmp_path, inputs):
    folder = tmp_path / "in"
    system = "@eaDir/a.jpg/T.jpg", ".thumbnails/b.jpg", "sub/__MACOSX/c.jpg", "._a.jpg"
    for name in ("a.jpg", *system):
        save_photo(folder / name)
    text = inputs.format(folder)
    found, left_out = find_inputs([text], tmp_path / "out")
    assert [each.source for each in found] == [folder / "a.jpg"]
    if inputs == "{}":
        expected = {"in @eaDir": 1, "in .thumbnails": 1, "in __MACOSX": 1, "hidden files": 1}
        assert left_out == expected
    named, _ = find_inputs([str(folder / "@eaDir")], tmp_path / "out")
    assert [each.relative for each in named] == [Path("a.jpg/T.jpg")]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["scan.001", "scan.002"], ["scan.001.png", "scan.002.png"]),
        (["p.jpg_large", "p.jpg"], ["p.jpg_large.png", "p.png"]),
        (["p.v2.jpg", "p.v3.JPG"], ["p.v2.png", "p.v3.png"]),
        (["live.jpg", "live.mov"], ["live.png", "live.mp4"]),
        (["photo", "photo.jpg"], ["photo.png", "photo.jpg.png"]),
        (["scan.001", "scan.001.png"], ["scan.001.png", "scan.001.png.png"]),
        (["net-0.80", "net-0.25"], ["net-0.80.png", "net-0.25.png"]),
        (["p.jpg", "p.json", "p.CR2"], ["p.png", "p.json.png", "p.CR2.png"]),
    ],
)
def test_a_suffix_that_is_no_images_is_kept(tmp_path, names, expected):
    """Each is predicted by itself: a second run overwrites nothing of the first."""
    photo = save_photo(tmp_path / "one.png")
    (tmp_path / "in").mkdir()
    for name in names:
        shutil.copy(photo, tmp_path / "in" / name)
    found = [targets([tmp_path / "in" / name], tmp_path / "out").popitem()[1] for name in names]
    assert found == [[name] for name in expected]


def test_links_to_folders_are_followed_once(photos, tmp_path):
    album = tmp_path / "album"
    save_photo(tmp_path / "elsewhere" / "c.png")
    album.mkdir()
    (album / "linked").symlink_to(tmp_path / "elsewhere")
    (album / "loop").symlink_to(album)
    (album / "up").symlink_to(tmp_path)
    sources = targets([album], tmp_path / "out")
    assert f"{album}/linked/c.png" in sources
    assert len([source for source in sources if source.endswith("c.png")]) == 1


def test_what_is_left_out_is_counted_by_kind(photos, tmp_path):
    (photos / "clip.MP4").write_bytes(b"")
    found, left_out = find_inputs([str(photos)], tmp_path / "out")
    assert len(found) == 6 and left_out == {"videos": 1, ".txt": 1, "hidden files": 1}
    assert sorted(describe(left_out).split(", ")) == [".txt (1)", "hidden files (1)", "videos (1)"]


def faults(inputs, output):
    return [job.fault for job in plan_jobs(list(map(str, inputs)), output, [".png"])]


def test_a_folder_without_photos_is_an_error(tmp_path):
    empty, videos = tmp_path / "empty", tmp_path / "videos"
    empty.mkdir()
    videos.mkdir()
    for name in ("a.mp4", "b.mkv", "c.txt"):
        (videos / name).write_bytes(b"x")
    assert faults([empty], tmp_path) == [f"{empty}: no photos found, it is empty"]
    assert faults([videos], tmp_path) == [
        f"{videos}: no photos found, only videos (2), .txt (1);"
        f" name videos one by one, or by a pattern: '{videos}/*.mp4'"
    ]
    save_photo(tmp_path / "thumbs" / "@eaDir" / "a.jpg")
    (tmp_path / "thumbs" / ".git").mkdir()
    assert faults([tmp_path / "thumbs"], tmp_path) == [
        f"{tmp_path}/thumbs: no photos found, only in @eaDir (1)"
    ]
    assert faults([tmp_path / "*.png"], tmp_path) == [f"{tmp_path}/*.png: no file has such a name"]
    assert faults([tmp_path / "gone.png"], tmp_path) == [""]  # reading it fails


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_among_the_photos_is_not_waited_for(tmp_path):
    save_photo(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    found = targets([tmp_path], tmp_path / "out")
    assert found == {str(tmp_path / "a.png"): ["a.png"], str(tmp_path / "b.png"): ["b.png"]}


@pytest.mark.parametrize("shards", [1, 3, 8])
def test_each_input_is_in_one_shard_wherever_the_folder_is(shards):
    names = [Path(f"trip {i % 7}", f"猫 {i}.jpg") for i in range(300)]
    sizes = []
    for number in range(1, shards + 1):
        here, there = (
            {name for name in names if in_shard(Found(folder / name, name), number, shards)}
            for folder in (Path("/mnt/photos"), Path("photos"))
        )
        assert here == there
        sizes.append(len(here))
    assert sum(sizes) == 300 and min(sizes) > 300 / shards / 2


@pytest.mark.parametrize("limit", [100, 10])  # at which Pillow warns of 150 pixels, and refuses
def test_the_header_of_a_large_photo_is_read_without_a_warning(tmp_path, monkeypatch, limit):
    Image.new("RGB", (10, 15)).save(tmp_path / "large.jpg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert count_pictures(tmp_path / "large.jpg") == 1
    assert limit == Image.MAX_IMAGE_PIXELS
