"""Checkpoints that are hostile, damaged or no files: refused in one line, and nothing runs."""

import os
import pickle
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from SCFNet.checkpoint import CheckpointError, load_checkpoint, load_plain
from tests.conftest import ARRAYS, Hostile, assert_same, write_pickle


def opcodes(*parts):
    return b"\x80\x04" + b"".join(parts) + b"."


def binary(data, opcode=b"B"):
    return opcode + struct.pack("<I", len(data)) + data


def text(data):
    return binary(data, b"X")


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def array_of(data, count):
    """An array of `count` float32 of `data`, opcodes that give a bytearray."""
    return name("numpy", "ndarray") + b"(J" + struct.pack("<i", count) + b"\x85" + F4 + data + b"tR"


F4 = text(b"f4")
MEGABYTE = name("builtins", "bytearray") + binary(bytes(1 << 20)) + b"\x85R"


@pytest.mark.parametrize(
    ("function", "args", "fault"),
    [
        (os.system, ("touch PWNED",), r"refused, .* would run (posix|nt)\.system"),
        (exec, ("open('PWNED', 'w')",), r"refused, .* would run builtins\.exec"),
        (getattr, ("os", "system"), r"refused, .* would run builtins\.getattr"),
        (subprocess.check_call, (["touch", "PWNED"],), r"would run subprocess\.check_call"),
        (eval, ("open('PWNED', 'w')", {"data": 1}), "not a checkpoint"),  # Paddle pickles it
    ],
)
def test_hostile_pickle_is_refused_and_nothing_runs(tmp_path, monkeypatch, function, args, fault):
    monkeypatch.chdir(tmp_path)
    path = write_pickle(tmp_path / "evil.pdparams", {**ARRAYS, "c": Hostile(function, *args)})
    with pytest.raises(CheckpointError, match=rf"evil\.pdparams: .*{fault}"):
        load_checkpoint(path)
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        # a key whose hash is computed by recursion in C, or takes for ever
        (opcodes(b"}", b")", b"\x85" * 200_000, b"Ns"), "has a tuple as a key"),
        (opcodes(b"})q\0", b"0h\0h\0\x86q\0" * 60, b"Ns"), "has a tuple as a key"),
        # containers in containers
        (opcodes(b"]" * 100_000, b"a" * 99_999), "nests more than 50 levels"),
        (opcodes(b")" + b"\x85" * 100_000), "nests more than 50 levels"),
        (opcodes(b"]q\0", b"h\0a"), "nests more than 50 levels"),
        (opcodes(b"}q\0", text(b"model"), b"h\0s"), "nests more than 50 levels"),
        (opcodes(b"]q\0", b"(" b"h\0h\0lq\0" * 40), "unfolds to more than 2000000 values"),
        # sizes that are claimed
        (b"\x80\x04}r\x00\xc2\xeb\x0b.", "no weights in it; it holds nothing"),
        (opcodes(b"}", text(b"w"), name("builtins", "bytearray"), b"\x8a\5\0\0\0\0\1",
                 b"\x85Rs"), "damaged"),
        (opcodes(b"\x8e" + struct.pack("<Q", 2**62)), "damaged"),
        (opcodes(b"B" + struct.pack("<I", 2**32 - 1)), "damaged"),
        (opcodes(b"}\x8b", struct.pack("<i", 1100), b"\1" * 1100, b"Ns"), "integer of 1100 bytes"),
        (opcodes(b"\x8b", struct.pack("<i", -1)), "damaged"),
        # one datum used many times
        (opcodes(name("_codecs", "encode"), b"q\0", text(b"a" * 10**6), text(b"latin1"), b"\x86q\1",
                 b"h\0h\1R" * 100, b"]"),
         "unfolds to much more than its size"),
        (opcodes(MEGABYTE, b"q\0", array_of(b"h\0", 1 << 18) * 100), "unfolds to much more"),
        (opcodes(array_of(MEGABYTE, 1 << 18), b"q\0}(", b"".join(
                 text(b"%d" % i) + b"h\0" for i in range(100)), b"u"),
         "104857600 bytes of weights in a smaller file"),
        # what is begun and not finished
        (opcodes(b"}", text(b"w"), name("numpy", "ndarray"), b"s"), "damaged"),
        (opcodes(b"}", text(b"w"), name("numpy.core.multiarray", "_reconstruct"), b")Rs"),
         "damaged"),
        # names that would forge a line, or cannot be printed
        (opcodes(b"}", text(b"\x1b[31mred\nerror: fake"), array_of(MEGABYTE, 1 << 18), b"s"),
         r"a weight is called \\x1b\[31mred\\nerror: fake$"),
        (opcodes(b"}", text(b"\xed\xa0\x80"), b"Ns"), r"it holds \\ud800"),
        (opcodes(b"}", text(b"w" * 10_000), b"Ns"), r"it holds w+\.\.\."),
        (opcodes(text(b"os\n\x1b"), text(b"system"), b"\x93"),
         r"would run os\\n\\x1b\.system"),
        # what numpy would make of a type
        (opcodes(name("numpy", "dtype"), text(b"(99999,99999)f8"), b"\x85R"), "damaged"),
        (opcodes(name("numpy", "dtype"), text(b"O8"), b"\x85R"), "damaged"),
        (pickle.dumps({"a": np.array([{}, None])}), "not a checkpoint, or damaged"),
        # what is no checkpoint
        (b"", "not a checkpoint, or damaged"),
        (b"<!DOCTYPE html><html>404</html>", "not a checkpoint, or damaged"),
        (pickle.dumps(ARRAYS)[:-20], "not a checkpoint, or damaged"),
        (pickle.dumps([1, 2]), "holds a list, not a state dict"),
        (pickle.dumps({"epoch": 3}), "no weights in it; it holds epoch"),
    ],
)  # fmt: skip
def test_hostile_and_bad_files_are_refused_in_one_line(tmp_path, content, fault):
    path = tmp_path / "evil.pdparams"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=fault) as caught:
        load_checkpoint(path)
    assert str(caught.value).startswith(str(path)) and str(caught.value).isprintable()


def test_a_pickle_of_too_many_steps_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("SCFNet.formats.unpickle.MAX_STEPS", 1000)
    path = tmp_path / "long.pdparams"
    path.write_bytes(opcodes(b"N0" * 1000))
    with pytest.raises(CheckpointError, match="takes more than 1000 steps"):
        load_checkpoint(path)


def test_pickles_are_not_read_past_their_end(tmp_path):
    path = write_pickle(tmp_path / "w.pdparams", ARRAYS)
    path.write_bytes(path.read_bytes() + pickle.dumps(Hostile(os.system, "touch PWNED")))
    assert_same(load_checkpoint(path), ARRAYS)


def test_what_is_no_file_is_refused_without_waiting(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(CheckpointError, match=f"{path}: is a folder, a pipe or a device"):
            load_checkpoint(path)
    monkeypatch.setattr("SCFNet.checkpoint.MAX_SIZE", 10)
    with pytest.raises(CheckpointError, match="it is larger than"):
        load_plain(write_pickle(tmp_path / "w.pdparams", ARRAYS))
    with pytest.raises(CheckpointError, match=r"gone: cannot be read: No such file"):
        load_checkpoint(tmp_path / "gone")
    with pytest.raises(CheckpointError, match="cannot be read: File name too long"):
        load_checkpoint("w" * 5000)
