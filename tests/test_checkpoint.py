"""Checkpoints: every coding reads, what does not fit is named, writing is safe."""

import pickle

import numpy as np
import pytest

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

import paddle  # isort: skip

from tests.conftest import ARRAYS, assert_same, write_pickle


def test_pickles_of_either_numpy_read(tmp_path):
    # protocol 2 spells module names as lines of text, so they can be exchanged
    pickled = pickle.dumps(ARRAYS, 2).replace(b"numpy._core", b"numpy.core")
    for name in (b"numpy._core", b"numpy.core"):
        (tmp_path / "w.pdparams").write_bytes(pickled.replace(b"numpy.core", name))
        assert_same(load_checkpoint(tmp_path / "w.pdparams"), ARRAYS)


W = ARRAYS["a.weight"]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({**ARRAYS, "StructuredToParameterName@@": {"a.weight": "linear_0.w_0"}}, ARRAYS),
        ({"state_dict": ARRAYS, "epoch": 3}, ARRAYS),
        ({"model": ARRAYS, "opt": {"m": np.zeros(2)}}, ARRAYS),
        ({key: ("linear_0.w_0", value) for key, value in ARRAYS.items()}, ARRAYS),
        (
            {"p@@.0": W.ravel()[:4], "p@@.1": W.ravel()[4:], "UnpackBigParamInfor@@":
             {"p": {"OriginShape": (2, 3), "slices": ["p@@.0", "p@@.1"]}}},
            {"p": W},
        ),
    ],
    ids=["named", "wrapped", "beside an optimizer", "with parameters' names", "in slices"],
)  # fmt: skip
def test_what_training_scripts_write_reads(tmp_path, written, read):
    assert_same(load_checkpoint(write_pickle(tmp_path / "w.pdparams", written)), read)


def test_paddle_save_reads(tmp_path):
    state = paddle.nn.Linear(3, 2).state_dict()
    arrays = {key: tensor.numpy() for key, tensor in state.items()}
    halves = {"w": paddle.to_tensor([0.5, -3.0]).astype("bfloat16")}  # becomes float32
    path = str(tmp_path / "w.pdparams")
    for value, expected in (
        (state, arrays),
        ({"model": state}, arrays),
        (halves, {"w": np.array([0.5, -3], "float32")}),
    ):
        paddle.save(value, path)
        assert_same(load_checkpoint(path), expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_weights_that_are_no_numbers_are_refused(tmp_path, value):
    arrays = {**ARRAYS, "bn._variance": np.array([1, value])}
    path = write_pickle(tmp_path / "w.pdparams", arrays)
    for load in (load_checkpoint, load_net, lambda path: load_weights(SCFNet(), path)):
        with pytest.raises(CheckpointError, match=r"w\.pdparams: bn\._variance is infinite or not"):
            load(path)


def test_an_empty_name_is_not_the_current_folder():
    for load in (load_checkpoint, load_net, lambda path: load_weights(SCFNet(), path)):
        with pytest.raises(CheckpointError, match="the name of the weights is empty"):
            load("")


def test_saved_weights_load_everywhere(tmp_path):
    net, other = SCFNet(), SCFNet()
    path = tmp_path / "deep" / "w.pdparams"
    save_weights(net, path)
    expected = {key: tensor.numpy() for key, tensor in net.state_dict().items()}
    assert_same(load_checkpoint(path), expected)
    missing, unexpected = other.load_dict(paddle.load(str(path)))
    assert (missing, unexpected) == ([], [])
    assert_same({key: tensor.numpy() for key, tensor in other.state_dict().items()}, expected)
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


def test_another_network_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"its keys are a\.weight, b"):
        load_net(write_pickle(tmp_path / "w.pdparams", ARRAYS))


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


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_memory_order_and_byte_order_reads(tmp_path, protocol):
    arrays = {
        **ARRAYS,
        "the same": ARRAYS["b"],
        "f": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(3, dtype=">i4"),
    }
    assert_same(load_checkpoint(write_pickle(tmp_path / "w.pdparams", arrays, protocol)), arrays)
    scalars = write_pickle(tmp_path / "s", {"step": np.int64(3)}, protocol)
    assert load_plain(scalars) == {"step": 3}
