"""The knobs: defaults of the paper, flags, the release's names for them, impossible values."""

import numpy as np
import pytest

from SCFNet.checkpoint import SHIPPED
from SCFNet.errors import InputError
from SCFNet.training.recipe import DistillRecipe, Recipe, changed_flags, parse
from SCFNet.training.schedules import sizes_at
from tests.conftest import distill_recipe, recipe, write_pickle


def test_sizes_follow_the_epoch():
    knobs = recipe(epochs=10, sizes=128, late_sizes=(320, 352), late_from=0.7)
    assert [sizes_at(epoch, knobs) for epoch in (6, 7)] == [(128,), (320, 352)]


def test_release_flags_are_aliases():
    ours = "--backbone R50 --data a --output b --log-dir c --epochs 3 --batch-size 4 --lr 0.1"
    ours += " --min-lr 0.2 --warmup-epochs 1 --weight-decay 0.3 --momentum 0.4 --log-every 7"
    theirs = "--model_type R50 --datapath a --savepath b --log_dir c --epoch 3 --train_bs 4"
    theirs += " --Max_LR 0.1 --Min_LR 0.2 --top_epoch 1 --decay 0.3 --momen 0.4 --show_step 7"
    ours, theirs = ours + " --pretrained d", theirs + " --snapshot d"
    assert parse(Recipe, "", ours.split()) == parse(Recipe, "", theirs.split()) != Recipe()


def test_defaults_are_the_papers():
    knobs = parse(Recipe, "", [])
    assert (knobs.epochs, knobs.batch_size, knobs.lr, knobs.min_lr) == (69, 128, 0.064, 0.00064)
    assert (knobs.momentum, knobs.weight_decay, knobs.warmup_epochs) == (0.9, 5e-4, 5)
    assert (knobs.loss, knobs.kernel_size) == ("sp", "paper")
    assert knobs.sizes == (224, 256, 288, 320, 352)
    assert parse(Recipe, "", ["--backbone", "ST"]).sizes == (384,)
    assert parse(Recipe, "", ["--backbone", "ST", "--sizes", "224"]).sizes == (224,)


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--backbone X", "invalid choice: 'X'"),
        ("--epochs 0", "epochs: must be more than 0, not 0"),
        ("--epochs many", "invalid int value"),
        ("--boundary 4", "kernel_size: must be paper, release or an odd number, not 4"),
        ("--backbone ST --sizes 100", "sizes: must be a multiple of 32, .* not 100"),
        ("--late-sizes 64 8", "late_sizes: must be a multiple of 32, .* not 8"),
        ("--lr nan", "lr: must be more than 0, not nan"),
        ("--device tpu", "device: 'tpu' is none of auto"),
        ("--val-fraction 1", "val_fraction: must be 0 or more, and less than 1, not 1.0"),
        ("--copy-paste 30", "copy_paste: must be from 0 to 1, not 30.0"),
        ("--vertical-flip -1", "vertical_flip: must be from 0 to 1, not -1.0"),
        ("--epoc 3", "unrecognized arguments: --epoc 3"),
    ],
)
def test_impossible_flags_are_refused(flags, message):
    with pytest.raises(InputError, match=message) as error:
        parse(Recipe, "", flags.split())
    assert "\n" not in str(error.value)


def test_fine_tuning_is_one_flag_and_others_change_it():
    knobs = parse(Recipe, "", ["--finetune", "small", "--lr", "0.1", "--sizes", "64"])
    assert (knobs.model, knobs.pretrained) == ("M3_0.5", str(SHIPPED["small"]))
    assert (knobs.lr, knobs.sizes, knobs.optimizer) == (0.1, (64,), "adamw")
    assert knobs.val_fraction == 0.2 and knobs.loss == "bce+sp"
    flags = changed_flags(knobs)
    assert flags[flags.index("--lr") + 1] == "0.1" and "--decoder" not in flags
    assert parse(Recipe, "", [*flags, "--output", knobs.output]) == knobs
    assert parse(Recipe, "", ["--finetune", "accurate"]).model == "EL0"
    assert changed_flags(Recipe()) == []


def test_python_may_give_paths_and_lists(tmp_path):
    """They become what flags give: a state file with a Path in it would be refused."""
    text = str(tmp_path)
    expected = DistillRecipe(data=text, teacher=(text, text), sizes=(64,))
    assert DistillRecipe(data=tmp_path, teacher=[tmp_path, text], sizes=[64]) == expected
    assert DistillRecipe(teacher="small").teacher == ("small",)


def test_fine_tuning_from_what_is_no_network_is_one_line(tmp_path):
    write_pickle(tmp_path / "x.pdparams", {"fc.weight": np.zeros((3, 3), "float32")})
    with pytest.raises(InputError, match=r"x\.pdparams: is of none of the networks"):
        parse(Recipe, "", ["--finetune", str(tmp_path / "x.pdparams")])
    with pytest.raises(InputError, match="nowhere: cannot be read"):
        parse(Recipe, "", ["--finetune", "nowhere"])


def test_distilling_needs_a_teacher_and_numbers_for_it():
    with pytest.raises(InputError, match="teacher: name a"):
        distill_recipe()
    with pytest.raises(InputError, match=r"teacher_std: must be more than 0, not 0\.0"):
        distill_recipe(teacher="small", teacher_std=(1, 0, 1))
