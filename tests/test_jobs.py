"""Which files are predicted, and what results are called: nothing is lost or forgotten."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from SCFNet.files import write_atomically
from SCFNet.photos.reading import read_photo
from SCFNet.photos.writing import encode_image, write_png
from SCFNet.prediction.inputs import Found, describe, find_inputs
from SCFNet.prediction.jobs import has_results, in_shard, plan_jobs
from SCFNet.prediction.marks import is_result, mark_of, read_mark
from SCFNet.prediction.rendering import ENDINGS


def save_photo(path, width=20):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, 16), (80, 120, 5 * width)).save(path, "PNG")
    return path


def plan(inputs, output="out", kinds=("mask",), keep=()):
    return plan_jobs(list(map(str, inputs)), Path(output), [ENDINGS[kind] for kind in kinds], keep)


def write_results(inputs, output, *kinds):
    """What a run does: write each result that is not there, with its mark; how many inputs."""
    jobs = [job for job in plan(inputs, output, kinds) if not has_results(job)]
    for job in jobs:
        for target in job.targets:
            encoded = encode_image(target, np.zeros((4, 4), "uint8"), job.mark, dpi=None)
            write_atomically(target, encoded)
    return len(jobs)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


TREE = ["a.jpg", "a.png", "b.png", "x-cutout.png", "day/a.png", "day/x.jpg"]
TREES_NAMES = ["a.jpg.png", "a.png.png", "b.png", "x-cutout.png", "day/a.png", "day/x.png"]
TWINS = ["trip/x.jpg", "work/x.jpg"]
YEARS = ["x [2020]/a.jpg", "x [2020]/b.jpg", "x 2/c.jpg"]


@pytest.mark.parametrize(
    ("files", "inputs", "names"),
    [
        (TREE, [""], TREES_NAMES),  # a folder keeps its tree, and no result is taken twice
        (TWINS, TWINS, ["trip/x.jpg.png", "work/x.jpg.png"]),
        # patterns, at any depth
        (TREE, ["**/a.*"], ["a.jpg.png", "a.png.png", "day/a.png"]),
        (["a1.jpg", "a2.jpg", "a3.jpg"], ["a[12].jpg"], ["a1.png", "a2.png"]),
        # brackets that are there are no pattern
        (["c[1].png"], ["c[1].png"], ["c[1].png"]),
        (YEARS, ["x [2020]/*.jpg"], ["a.png", "b.png"]),
        (["[a] b/c/d.jpg"], ["[a] b/**/*.jpg"], ["c/d.png"]),
        (["1/x [b]/a.jpg", "2/x [b]/a.jpg"], ["*/x [b]/a.jpg"], ["1/x [b]/a.png", "2/x [b]/a.png"]),
        (["a[1].jpg", "a[2].jpg"], ["a[?].jpg"], ["a[1].png", "a[2].png"]),
    ],
)
def test_names_of_results(here, files, inputs, names):
    for file in files:
        save_photo(here / "in" / file)
    for start in (Path("in"), here / "in"):
        jobs = plan(start / text for text in inputs)
        assert [str(job.targets[0].relative_to("out")) for job in jobs] == names


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (TREE, TREES_NAMES),
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
def test_a_name_does_not_depend_on_what_else_is_predicted(here, files, names):
    """A second run overwrites nothing of the first."""
    for file in files:
        save_photo(here / file)
    for file, name in zip(files, names):
        assert [job.targets for job in plan([file])] == [(Path("out") / Path(name).name,)]


def test_names_that_differ_in_case_alone(here):
    for name in ("A.png", "a.png", "a.PNG"):
        save_photo(here / "in" / name)
    names = {str(job.targets[0]).casefold() for job in plan(["in"])}
    assert len(names) == len(list((here / "in").iterdir()))


def test_the_same_file_twice_is_one_job(here):
    photo = save_photo(here / "in/day/b.png")
    Path("link").symlink_to("in")
    assert len(plan([photo, "in/day/../day/b.png", "in/day/b*", "link/day/b.png"])) == 1


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
def test_an_input_is_never_overwritten(here, inputs, output):
    photo = save_photo(Path("real/b.png"))
    Path("link").symlink_to("real")
    for name in ("one", "hard", "tree"):
        Path(name).mkdir()
    Path("one/b.png").symlink_to("../real/b.png")
    os.link(photo, "hard/b.png")
    Path("tree/day").symlink_to("../real")
    before = {p: p.read_bytes() for p in Path().glob("*/**/b.png")}
    assert write_results(inputs, output, "mask") == 1
    assert {p: p.read_bytes() for p in before} == before
    assert Path("one/b.png").is_symlink() and photo.samefile("hard/b.png")
    assert write_results(inputs, output, "mask") == 0


@pytest.mark.parametrize(
    ("files", "inputs", "kinds", "names"),
    [
        # a stem that is another's cut-out
        ([], ["x.jpg", "x-cutout.jpg"], ["mask", "cutout"], ["x.jpg", "x-cutout.jpg"]),
        # a picture beside the input
        (["x.jpg", "x-cutout.png"], ["x.jpg"], ["cutout"], ["x.jpg"]),
        (["a.jpg", "a.png"], ["a.jpg"], ["mask"], ["a.jpg"]),
    ],
)
def test_no_other_picture_is_overwritten(here, files, inputs, kinds, names):
    for file in files:
        save_photo(here / file)
    jobs = plan(inputs, "", kinds)
    assert [job.targets for job in jobs] == [
        tuple(Path(name + ENDINGS[kind]) for kind in kinds) for name in names
    ]


def test_a_background_in_the_output_is_not_overwritten(here):
    keep = [save_photo(here / "out/b.png")]
    assert [job.targets for job in plan([save_photo(here / "b.png")], keep=keep)] == [
        (Path("out/b.png.png"),)
    ]


@pytest.mark.parametrize("names", [("a.jpg", "b.jpg"), ("a.png", "b.png"), ("a.jpg", "a.png")])
def test_results_are_no_photos(here, names):
    for name in names:
        save_photo(here / "same" / name)
    Path("link").symlink_to("same")
    for inputs, output, *kinds, written in (
        ("same", "same", "mask", "overlay", 2),
        ("same", "same", "mask", "overlay", 0),
        ("link", "same", "mask", 0),
        ("same", "link", "mask", 0),
        ("same/*.*", "same", "mask", 0),
        ("same", "same", "cutout", 2),
        ("same", "elsewhere", "mask", 2),
        ("same", "same/first", "mask", 2),
        ("same", "same/first", "mask", 0),
        ("same", "same/second", "mask", 2),
    ):
        assert write_results([inputs], output, *kinds) == written, (inputs, output)
    found, left_out = find_inputs(["same"], Path("same/first"))
    assert len(found) == 2 and left_out == {"results of earlier runs": 8}


def test_the_result_of_another_photo_is_none(here):
    for name, width in (("x/a.jpg", 20), ("y/a.jpg", 300)):
        save_photo(here / name, width)
        assert write_results([name], "out", "mask") == 1
    assert write_results(["y/a.jpg"], "out", "mask") == 0
    (job,) = plan(["y/a.jpg"])
    assert has_results(job._replace(made_by="0" * 16))  # its mark does not say by what: it counts
    write_png("out/a.png", np.zeros((2, 2), "uint8"))  # from elsewhere: it counts too
    assert write_results(["y/a.jpg"], "out", "mask") == 0


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 3), (80, 90, 3)])
@pytest.mark.parametrize("dpi", [None, (300, 300), (72, 144)])
def test_marks_and_the_resolution_are_read_and_cost_no_pixel(tmp_path, suffix, shape, dpi):
    source = save_photo(tmp_path / "photo.jpg")
    image = np.full(shape, 77, "uint8")
    result = tmp_path / f"result{suffix}"
    result.write_bytes(encode_image(result, image, mark_of(source), dpi))
    assert read_mark(result) == mark_of(source) and is_result(result)
    found = read_photo(result)
    assert found.dpi == dpi or (dpi is None and suffix == ".jpg")
    np.testing.assert_array_equal(found.image, image if image.ndim == 3 else np.dstack([image] * 3))
    assert not is_result(source) and not is_result(tmp_path / "gone.png")


@pytest.mark.parametrize("inputs", ["{}", "{}/**/*.jpg", "{}/*"])
def test_folders_of_a_system_count_for_nothing(tmp_path, inputs):
    folder = tmp_path / "in"
    system = "@eaDir/a.jpg/T.jpg", ".thumbnails/b.jpg", "sub/__MACOSX/c.jpg", "._a.jpg"
    for name in ("a.jpg", *system):
        save_photo(folder / name)
    found, left_out = find_inputs([inputs.format(folder)], tmp_path / "out")
    assert [each.source for each in found] == [folder / "a.jpg"]
    if inputs == "{}":
        expected = {"in @eaDir": 1, "in .thumbnails": 1, "in __MACOSX": 1, "hidden files": 1}
        assert left_out == expected
    named, _ = find_inputs([str(folder / "@eaDir")], tmp_path / "out")
    assert [each.relative for each in named] == [Path("a.jpg/T.jpg")]


def test_links_to_folders_are_followed_once(here):
    save_photo(here / "elsewhere" / "c.png")
    Path("album").mkdir()
    for name, target in (("linked", "../elsewhere"), ("loop", "../album"), ("up", "..")):
        Path("album", name).symlink_to(target)
    sources = [str(job.source) for job in plan(["album"])]
    assert [name for name in sources if name.endswith("c.png")] == ["album/linked/c.png"]


def test_what_is_left_out_is_counted_by_kind(here):
    for name in ("a.jpg", "clip.MP4", "notes.txt", ".hidden.png"):
        save_photo(here / "in" / name)
    found, left_out = find_inputs(["in"], here / "out")
    assert len(found) == 1 and left_out == {"videos": 1, ".txt": 1, "hidden files": 1}
    assert sorted(describe(left_out).split(", ")) == [".txt (1)", "hidden files (1)", "videos (1)"]


@pytest.mark.parametrize(
    ("files", "text", "fault"),
    [
        ([], "in", "in: no photos found, it is empty"),
        (
            ["a.mp4", "b.mkv", "c.txt"],
            "in",
            "in: no photos found, only videos (2), .txt (1);"
            " name videos one by one, or by a pattern: 'in/*.mp4'",
        ),
        (["@eaDir/a.jpg", ".git/a"], "in", "in: no photos found, only in @eaDir (1)"),
        ([], "in/*.png", "in/*.png: no file has such a name"),
        ([], "gone.png", ""),  # reading it fails
    ],
)
def test_what_names_no_photo_is_an_error(here, files, text, fault):
    Path("in").mkdir()
    for file in files:
        save_photo(here / "in" / file)
    assert [job.fault for job in plan([text])] == [fault]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_among_the_photos_is_not_waited_for(here):
    save_photo(here / "in" / "a.png")
    os.mkfifo("in/b.png")
    targets = [job.targets for job in plan(["in"])]
    assert targets == [(Path("out/a.png"),), (Path("out/b.png"),)]


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
