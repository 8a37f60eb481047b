"""Writing files: the old one or the whole new one, and nothing left behind by killed runs."""

import os
import pickle
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from SCFNet.errors import ArgumentError, InputError
from SCFNet.files import first_few, remove_leftovers, replacing, write_atomically
from tests.conftest import ROOT, run_python


def test_a_failure_keeps_the_old_file_and_leaves_nothing(tmp_path):
    write_atomically(tmp_path / "deep" / "a.txt", b"old")
    with pytest.raises(InputError, match="no more"), replacing(tmp_path / "deep/a.txt") as stream:
        stream.write(b"new")
        raise InputError("no more")
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.txt"]
    assert (tmp_path / "deep" / "a.txt").read_bytes() == b"old"
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/a\.txt: cannot be written"):
        write_atomically(tmp_path / "file" / "a.txt", b"")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes")
def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_atomically(pipe, b"scores")
    reader.join()
    assert (read, pipe.is_fifo(), len(list(tmp_path.iterdir()))) == ([b"scores"], True, 1)


def test_leftovers_of_a_killed_run_go_and_those_in_use_stay(tmp_path):
    run_python(
        "import os, signal, sys\nfrom SCFNet.files import replacing\n"
        "with replacing(sys.argv[1]): os.kill(os.getpid(), signal.SIGKILL)",
        tmp_path / "killed.png",
    )
    killed = next(tmp_path.iterdir())
    own = tmp_path / ".own-notes.tmp"
    own.write_text("a person's")
    for path in (killed, own):
        os.utime(path, (0, 0))
    with replacing(tmp_path / "living.png") as stream:
        remove_leftovers(tmp_path)
        assert set(tmp_path.iterdir()) == {Path(stream.name), own}
    assert (tmp_path / "living.png").exists()
    remove_leftovers(tmp_path / "no such folder")


def test_processes_that_write_and_tidy_in_one_folder_lose_nothing(tmp_path):
    code = textwrap.dedent(f"""
        import sys
        from SCFNet.files import remove_leftovers, write_atomically
        for i in range(100):
            remove_leftovers({str(tmp_path)!r})
            write_atomically(f"{tmp_path}/{{sys.argv[1]}}-{{i}}.png", b"a map", flush=False)
    """)
    runs = [subprocess.Popen([sys.executable, "-c", code, name], cwd=ROOT) for name in "ab"]
    assert [run.wait() for run in runs] == [0, 0]
    assert len(list(tmp_path.glob("*.png"))) == len(list(tmp_path.iterdir())) == 200


def test_the_first_few_are_listed_and_the_rest_counted():
    assert first_few(["a", "b"]) == "a, b"
    assert first_few(list("abcd"), 2, "; ") == "a; b; and 2 more"


@pytest.mark.parametrize("error", [InputError("a.png: no"), ArgumentError("device", "fpga: no")])
def test_an_error_crosses_from_a_worker_process(error):
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy)) == (type(error), str(error))
