"""Checkpoints: every coding reads, hostile and damaged files are refused, writing is safe."""

import io
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from SCFNet.checkpoint import (
    CheckpointError,
    assign_weights,
    dump_plain,
    load_checkpoint,
    load_net,
    load_plain,
    load_weights,
    save_weights,
)
from SCFNet.net import SCFNet
from SCFNet.zoo import detect_network

import paddle  # isort: skip

ROOT = Path(__file__).resolve().parents[1]
ARRAYS = {"a.weight": np.arange(6, dtype="float32").reshape(2, 3), "b": np.ones((), "int64")}


def write(path, value, protocol=4):
    path.write_bytes(pickle.dumps(value, protocol))
    return path


def same(found, expected):
    assert list(found) == list(expected)
    for key in expected:
        assert found[key].dtype == expected[key].dtype
        np.testing.assert_array_equal(found[key], expected[key])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_reads(tmp_path, protocol):
    same(load_checkpoint(write(tmp_path / "w.pdparams", ARRAYS, protocol)), ARRAYS)


@pytest.mark.parametrize(
    ("old", "new"), [(b"numpy.core", b"numpy._core"), (b"numpy._core", b"numpy.core")]
)
def test_pickles_of_the_other_numpy_read(tmp_path, old, new):
    # protocol 2 spells module names as lines of text, so they can be exchanged
    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps(ARRAYS, 2).replace(old, new))
    same(load_checkpoint(path), ARRAYS)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {**s, "StructuredToParameterName@@": {"a.weight": "linear_0.w_0"}},
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": s, "opt": {"m": np.zeros(2)}},
        lambda s: {k: ("linear_0.w_0", v) for k, v in s.items()},
    ],
)
def test_wrapped_files_read(tmp_path, wrap):
    same(load_checkpoint(write(tmp_path / "w.pdparams", wrap(ARRAYS))), ARRAYS)


def test_sliced_parameters_read(tmp_path):
    value = {
        "p@@.0": ARRAYS["a.weight"].ravel()[:4],
        "p@@.1": ARRAYS["a.weight"].ravel()[4:],
        "UnpackBigParamInfor@@": {"p": {"OriginShape": (2, 3), "slices": ["p@@.0", "p@@.1"]}},
    }
    same(load_checkpoint(write(tmp_path / "w.pdparams", value, 2)), {"p": ARRAYS["a.weight"]})


def test_paddle_save_reads(tmp_path):
    net = paddle.nn.Linear(3, 2)
    expected = {key: tensor.numpy() for key, tensor in net.state_dict().items()}
    for i, value in enumerate([net.state_dict(), {"model": net.state_dict()}]):
        paddle.save(value, str(tmp_path / f"{i}.pdparams"))
        same(load_checkpoint(tmp_path / f"{i}.pdparams"), expected)


class Hostile:
    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "args", "name"),
    [
        (os.system, ("touch PWNED",), r"(posix|nt)\.system"),
        (exec, ("open('PWNED', 'w')",), r"builtins\.exec"),
        (getattr, (os, "system"), r"builtins\.getattr"),
        (subprocess.check_call, (["touch", "PWNED"],), r"subprocess\.check_call"),
    ],
)
def test_hostile_pickle_is_refused_and_nothing_runs(tmp_path, monkeypatch, function, args, name):
    monkeypatch.chdir(tmp_path)
    if function is getattr:
        args = ("os", "system")
    path = write(tmp_path / "evil.pdparams", {**ARRAYS, "c": Hostile(function, *args)})
    with pytest.raises(CheckpointError, match=rf"evil\.pdparams: refused, .* would run {name}"):
        load_checkpoint(path)
    assert not (tmp_path / "PWNED").exists()


def test_paddles_eval_does_not_evaluate(tmp_path):
    path = write(tmp_path / "evil.pdparams", {"c": Hostile(eval, "1 + 1", {"data": 1})})
    with pytest.raises(CheckpointError, match=r"evil\.pdparams"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: No such file"),
        (b"", "not a checkpoint, or damaged"),
        (b"<!DOCTYPE html><html>404</html>", "not a checkpoint, or damaged"),
        (pickle.dumps(ARRAYS)[:-20], "not a checkpoint, or damaged"),
        (pickle.dumps([1, 2]), "holds a list, not a state dict"),
        (pickle.dumps({"epoch": 3}), "no weights in it; it holds epoch"),
    ],
)
def test_bad_files_are_one_line(tmp_path, content, words):
    path = tmp_path / "bad.pdparams"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


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
        (opcodes(b"\x8b", struct.pack("<i", -1)), "integer of -1 bytes"),
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
    ],
)  # fmt: skip
def test_hostile_files_are_refused_in_one_line(tmp_path, content, fault):
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


def test_what_is_no_file_is_refused_without_waiting(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(CheckpointError, match=f"{path}: is a folder, a pipe or a device"):
            load_checkpoint(path)
    monkeypatch.setattr("SCFNet.checkpoint.MAX_SIZE", 10)
    with pytest.raises(CheckpointError, match="it is larger than"):
        load_plain(write(tmp_path / "w.pdparams", ARRAYS))
    with pytest.raises(CheckpointError, match="cannot be read: File name too long"):
        load_checkpoint("w" * 5000)


def test_missing_weights_are_noticed_without_paddle(tmp_path):
    code = (
        "import sys\nfrom SCFNet.predictor import Predictor\n"
        "for weights in sys.argv[1:]:\n"
        "    try: Predictor(weights, device='cpu')\n"
        "    except ValueError as error: print(error)\n"
        "assert 'paddle' not in sys.modules"
    )
    paths = [str(tmp_path / "gone.pdparams"), str(tmp_path), "."]
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], cwd=ROOT, capture_output=True, text=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    for path, line in zip(paths, lines):
        assert line.startswith(f"{path}: ") and "weights/README.md" in line


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_weights_that_are_no_numbers_are_refused(tmp_path, value):
    arrays = {**ARRAYS, "bn._variance": np.array([1, value])}
    path = write(tmp_path / "w.pdparams", arrays)
    for load in (load_checkpoint, load_net, lambda path: load_weights(SCFNet(), path)):
        with pytest.raises(CheckpointError, match=r"w\.pdparams: bn\._variance is infinite or not"):
            load(path)


def test_bfloat16_as_paddle_writes_it_becomes_float32(tmp_path):
    path = str(tmp_path / "w.pdparams")
    paddle.save({"w": paddle.to_tensor([0.5, -3.0]).astype("bfloat16")}, path)
    same(load_checkpoint(path), {"w": np.array([0.5, -3], "float32")})


def test_arrays_that_are_named_twice_load(tmp_path):
    shared = np.arange(3.0)
    found = load_checkpoint(write(tmp_path / "w.pdparams", {"a": shared, "b": shared}))
    same(found, {"a": shared, "b": shared})


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_files_never_raise_anything_else(tmp_path_factory, data):
    content = bytearray(pickle.dumps(ARRAYS, data.draw(st.sampled_from([2, 4]))))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "fuzzed.pdparams"
    path.write_bytes(content)
    try:
        assert load_checkpoint(path)
    except CheckpointError as error:
        assert "fuzzed.pdparams" in str(error) and str(error).isprintable()


def test_saved_weights_load_everywhere(tmp_path):
    net, other = SCFNet(), SCFNet()
    path = tmp_path / "deep" / "w.pdparams"
    save_weights(net, path)
    expected = {key: tensor.numpy() for key, tensor in net.state_dict().items()}
    same(load_checkpoint(path), expected)
    missing, unexpected = other.load_dict(paddle.load(str(path)))
    assert (missing, unexpected) == ([], [])
    same({key: tensor.numpy() for key, tensor in other.state_dict().items()}, expected)
    assert b"_core" not in path.read_bytes().replace(b"\x00", b"")  # either numpy can read it
    assert [p.name for p in path.parent.iterdir()] == ["w.pdparams"]


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    net = paddle.nn.Linear(2, 2)
    path = tmp_path / "w.pdparams"
    save_weights(net, path)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ValueError, match=r"w\.pdparams: cannot be written: No space left"):
        save_weights(net, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["w.pdparams"]


def test_loading_names_what_does_not_fit(tmp_path):
    net = SCFNet()
    state = {key: tensor.numpy() for key, tensor in net.state_dict().items()}
    state["extra"] = np.zeros(3, "float32")
    state["linear2.weight"] = np.zeros((1, 64, 3, 3), "float32")
    del state["cv1.0.bias"]
    path = tmp_path / "w.pdparams"
    path.write_bytes(dump_plain(state))
    with pytest.raises(CheckpointError) as caught:
        load_weights(net, path)
    assert str(caught.value) == (
        f"{path}: does not fit the network: 1 missing, first cv1.0.bias; "
        "1 unexpected, first extra; "
        "1 mismatched, first linear2.weight ([1, 64, 3, 3] for the network's [1, 16, 3, 3])"
    )
    before = net.linear2.weight.numpy()
    state["linear3.bias"][:] = 7
    path.write_bytes(dump_plain(state))
    with pytest.warns(UserWarning, match="1 missing, first cv1.0.bias"):
        load_weights(net, path, strict=False)
    assert float(net.linear3.bias) == 7
    np.testing.assert_array_equal(net.linear2.weight.numpy(), before)


@pytest.mark.parametrize("backbone", ["M3_0.5", "R50", "R34", "V16", "ST"])
def test_backbone_is_told_from_the_keys(backbone):
    if backbone == "ST":
        state = {"bkbone.patch_embed.proj.weight": np.zeros(1), "mp.cv1.0.weight": np.zeros(1)}
    else:
        state = SCFNet(backbone=backbone).state_dict()
    assert detect_network(state) == backbone


def test_backbone_of_another_network_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"its keys are a\.weight, b"):
        load_net(write(tmp_path / "w.pdparams", ARRAYS))


@pytest.mark.parametrize("decoder", ["scfm", "base"])
def test_load_net_detects_all(tmp_path, decoder):
    net = SCFNet(decoder=decoder)
    save_weights(net, tmp_path / "w.pdparams")
    found = load_net(tmp_path / "w.pdparams")
    assert (found.model_type, found.decoder, found.training) == ("M3_0.5", decoder, False)


def test_assigning_casts_to_the_networks_dtype():
    net = paddle.nn.Linear(2, 1)
    assign_weights(net, {"weight": np.full((2, 1), 0.5), "bias": np.ones(1, "float16")}, "here")
    assert net.weight.numpy().ravel().tolist() == [0.5, 0.5]


def test_plain_values_make_the_round_trip(tmp_path):
    value = {"step": 3, "rate": 0.5, "names": ["a", None], "array": np.eye(2), "raw": b"\x00"}
    path = tmp_path / "state"
    path.write_bytes(dump_plain(value))
    found = load_plain(path)
    np.testing.assert_array_equal(found.pop("array"), value.pop("array"))
    assert found == value


def test_reading_a_checkpoint_does_not_import_paddle():
    code = "import sys, SCFNet.checkpoint; sys.exit('paddle' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_memory_order_and_byte_order_survive(tmp_path, protocol):
    arrays = {
        "f": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(3, dtype=">i4"),
    }
    same(load_checkpoint(write(tmp_path / "w.pdparams", arrays, protocol)), arrays)
    scalars = write(tmp_path / "s", {"step": np.int64(3)}, protocol)
    assert load_plain(scalars) == {"step": 3}


def test_arrays_of_objects_are_refused(tmp_path):
    path = write(tmp_path / "w.pdparams", {"a": np.array([{}, None])})
    with pytest.raises(CheckpointError, match="not a checkpoint, or damaged"):
        load_checkpoint(path)


def test_pickles_are_not_read_past_their_end(tmp_path):
    buffer = io.BytesIO(pickle.dumps(ARRAYS))
    buffer.seek(0, 2)
    buffer.write(pickle.dumps(Hostile(os.system, "touch PWNED")))
    (tmp_path / "w.pdparams").write_bytes(buffer.getvalue())
    same(load_checkpoint(tmp_path / "w.pdparams"), ARRAYS)
