"""What a network starts from: ImageNet weights, files of a backbone or of a whole network."""

import numpy as np
import paddle
import pytest

from SCFNet.checkpoint import dump_plain
from SCFNet.errors import InputError
from SCFNet.files import write_atomically
from SCFNet.training import state
from SCFNet.training.pretrained import imagenet_file
from tests.conftest import recipe


def test_imagenet_offline_says_which_file_goes_where(monkeypatch):
    def offline(_):
        raise RuntimeError("no network")

    monkeypatch.setattr(paddle.utils.download, "get_weights_path_from_url", offline)
    with pytest.raises(InputError) as error:
        imagenet_file("M3_0.5")
    folder = paddle.utils.download.WEIGHTS_HOME
    for text in ("MobileNetV3_large_x0_5_pretrained.pdparams", folder, "--pretrained FILE"):
        assert text in str(error.value)


def test_pretrained_files_of_backbone_and_network(tmp_path):
    source = state.new_run(recipe(seed=1)).net
    whole = {k: v.numpy() for k, v in source.state_dict().items()}
    backbone = {k[len("bkbone.") :]: v for k, v in whole.items() if k.startswith("bkbone.")}
    backbone["fc.weight"] = np.zeros((3, 3), "float32")  # a classifier's, to be left out
    for name, weights in (("whole", whole), ("backbone", backbone)):
        write_atomically(tmp_path / name, dump_plain(weights))
    net = state.new_run(recipe(pretrained=tmp_path / "backbone")).net
    found = {k: v.numpy() for k, v in net.state_dict().items()}
    same = {k for k in whole if np.array_equal(found[k], whole[k])}
    assert {k for k in whole if k.startswith("bkbone.")} <= same and "linear2.weight" not in same
    net = state.new_run(recipe(pretrained=tmp_path / "whole")).net
    assert all(np.array_equal(v.numpy(), whole[k]) for k, v in net.state_dict().items())
    with pytest.raises(InputError, match=r"is of M3_0\.5, not of EL0"):
        state.new_run(recipe(model="EL0", pretrained=tmp_path / "whole"))
