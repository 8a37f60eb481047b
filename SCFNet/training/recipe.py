"""The knobs of a training run: defaults (the paper's), command-line flags, checks.

One dataclass is all three, so that a knob is written once. `tools/train.py` uses `Recipe`,
`tools/distill.py` a child of it.
"""

import argparse
from dataclasses import dataclass, field, fields
from typing import Any, List, Optional, Sequence, Tuple, Type, TypeVar

from datasets.files import InputError
from datasets.transform import MEAN, STD
from SCFNet.zoo import NETWORKS, ZOO

SCHEDULES = ("paper", "release")
Kind = TypeVar("Kind", bound="Recipe")


def knob(default: Any, text: str, *aliases: str, **options: Any) -> Any:
    """A field with what argparse has to know: help `text`, the release's spellings, options."""
    return field(default=default, metadata={"help": text, "aliases": aliases, **options})


@dataclass
class Recipe:
    """How to train; the defaults reproduce the paper. Raises InputError for impossible values."""

    # the data
    data: str = knob(
        "data/DUTS-TR", "folder with image/ and mask/, or images/ and masks/", "--datapath"
    )
    val: str = knob("", "a labelled folder that is scored each epoch (MAE and max F)")
    val_fraction: float = knob(0.0, "without --val: the part of --data to hold back for scoring")
    val_size: int = knob(0, "side of the network's input in scoring; 0 is the network's own")
    val_every: int = knob(1, "score every N epochs, and after the last")
    # the network
    model: str = knob(
        "M3_0.5",
        "the network: SCFNet by the name of its backbone, or another one",
        "--backbone",
        "--model_type",
        choices=NETWORKS,
    )
    decoder: str = knob(
        "scfm",
        "SCFNet's decoder; base is the baseline of the paper's ablation",
        choices=("scfm", "base"),
    )
    pretrained: str = knob(
        "imagenet",
        "what to start from: imagenet (fetched), none, or a "
        "file of a backbone's or a whole network's weights",
        "--snapshot",
    )
    # the schedule
    epochs: int = knob(69, "passes over the data", "--epoch")
    batch_size: int = knob(128, "images a step, over all devices together", "--train_bs")
    lr: float = knob(0.064, "the highest learning rate", "--Max_LR")
    min_lr: float = knob(0.00064, "the first and the last learning rate", "--Min_LR")
    warmup_epochs: float = knob(5.0, "epochs in which the rate rises", "--top_epoch")
    optimizer: str = knob("momentum", "momentum is the paper's SGD; adamw gets further in few "
                          "epochs from scratch (try --lr 0.006 --weight-decay 0.02)",
                          choices=("momentum", "adamw"))  # fmt: skip
    momentum: float = knob(0.9, "of SGD", "--momen")
    weight_decay: float = knob(
        5e-4, "L2, on all but the MobileNetV3 backbone's batch norms", "--decay"
    )
    backbone_lr_scale: float = knob(
        -1.0,
        "the backbone's learning rate is this times the rest's; "
        "by default 1 from scratch, else 0.1",
    )
    ema: float = knob(
        0.0,
        "decay of the averaged weights, as 0.999, which are then what is scored "
        "and written; 0 is off",
    )
    # the loss
    loss: str = knob("sp", "of each map", choices=("sp", "dice", "bce", "bce+sp"))
    boundary: str = knob(
        "paper",
        "thickness of SP's boundary: PBSM's staircase as in the "
        "paper or in the release's code, or a fixed odd number",
    )
    # the augmentation
    sizes: Tuple[int, ...] = knob(
        (224, 256, 288, 320, 352), "sides; one is drawn for each batch", nargs="+", type=int
    )
    late_sizes: Tuple[int, ...] = knob(
        (), "sides of the late epochs, by default --sizes", nargs="+", type=int
    )
    late_from: float = knob(0.7, "the part of the epochs after which --late-sizes begin")
    augment: str = knob(
        "release",
        "strong, for runs that overfit, adds scale, colour and more",
        choices=("release", "strong", "none"),
    )
    copy_paste: float = knob(
        -1.0,
        "chance of pasting another photo's object onto a photo; by "
        "default 0, and 0.3 with --augment strong",
    )
    zoom: float = knob(0.0, "chance of a crop so close that the frame cuts the object; needs masks")
    # the run
    workers: int = knob(4, "threads that load images, for each device; 0 is none")
    amp: bool = knob(False, "mixed precision with a loss scaler (on a GPU; elsewhere float32)")
    seed: int = knob(0, "of weights, order and augmentation")
    device: str = knob("auto", "auto, cpu, gpu or gpu:N")
    output: str = knob(
        "output/train",
        "folder for last.pdparams, best.pdparams, the state and log.jsonl",
        "--savepath",
    )
    log_dir: str = knob(
        "", "folder for VisualDL: rate, losses, scores, predicted maps", "--log_dir"
    )
    log_every: int = knob(30, "print the losses every N steps; 0 is never", "--show_step")
    resume: str = knob(
        "",
        "auto goes on from --output where there is something to go on from; or "
        "a state file (last.state)",
    )
    save_every: int = knob(0, "also save every N steps, not only after each epoch")
    dry_run: bool = knob(False, "do one step, write nothing, stop")

    def __post_init__(self) -> None:
        self.sizes, self.late_sizes = tuple(self.sizes), tuple(self.late_sizes)
        positive = ("val_every", "epochs", "batch_size", "lr", "min_lr")
        at_least_0 = (
            "val_size",
            "warmup_epochs",
            "momentum",
            "weight_decay",
            "workers",
            "seed",
            "log_every",
            "save_every",
        )
        parts = ("val_fraction", "ema", "late_from", "zoom")
        self._check(positive, lambda value: value > 0, "more than 0")
        self._check(at_least_0, lambda value: value >= 0, "0 or more")
        self._check(parts, lambda value: 0 <= value <= 1, "from 0 to 1")
        self._check(("val_fraction", "ema"), lambda value: value < 1, "less than 1")
        self._check(("copy_paste",), lambda value: value <= 1, "at most 1")
        self._check(
            ("sizes", "late_sizes"), lambda sides: all(s >= 32 for s in sides), "32 or more"
        )
        if self.boundary not in SCHEDULES and not (
            self.boundary.isdigit() and int(self.boundary) % 2
        ):
            raise InputError(f"--boundary {self.boundary}: give paper, release or an odd number")

        if self.decoder != "scfm" and self.model in ZOO:
            raise InputError(f"--decoder {self.decoder}: {self.model} has a decoder of its own")

    def _check(self, names: Sequence[str], holds: Any, wanted: str) -> None:
        for name in names:
            if not holds(getattr(self, name)):
                flag = "--" + name.replace("_", "-")
                raise InputError(f"{flag} {getattr(self, name)}: must be {wanted}")


@dataclass
class DistillRecipe(Recipe):
    """How to distil: `Recipe`, and the teacher."""

    data: str = knob(
        "data/KD-SOD80K", "folder of photos, at any depth, without masks", "--datapath"
    )
    val: str = knob(
        "",
        "a folder of photos on which student and teacher are compared each epoch; "
        "if it has masks, the student is scored by them too",
    )
    val_fraction: float = knob(0.0, "without --val: the part of --data to hold back for that")
    loss: str = knob("dice", "of each map", choices=("sp", "dice", "bce", "bce+sp"))
    output: str = knob(
        "output/distill",
        "folder for last.pdparams, best.pdparams, the state and log.jsonl",
        "--savepath",
    )
    # the teacher
    teacher: str = knob(
        "",
        "small or accurate (the shipped ones), a .pdparams file of this repository's networks, "
        "an .onnx file, or a folder of maps, one for each photo",
    )
    teacher_size: int = knob(
        0, "side of the teacher's input; by default the batch's, or what the file demands"
    )
    teacher_mean: Tuple[float, ...] = knob(
        tuple(MEAN.tolist()), ".onnx: subtracted from RGB in [0, 255]", nargs=3, type=float
    )
    teacher_std: Tuple[float, ...] = knob(
        tuple(STD.tolist()), ".onnx: divided by, then", nargs=3, type=float
    )
    teacher_output: str = knob(
        "sigmoid", ".onnx: whether it gives probabilities or logits", choices=("sigmoid", "logits")
    )
    teacher_input_name: str = knob("", ".onnx: by default its only input of four dimensions")
    teacher_output_name: str = knob("", ".onnx: by default its first output")
    cache_labels: str = knob(
        "",
        "folder for the teacher's maps, which is then run only once; "
        "several processes and machines may fill one folder",
    )
    skip_unreadable: bool = knob(False, "leave out photos that cannot be read")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.teacher:
            raise InputError("--teacher: name a .pdparams file, an .onnx file or a folder of maps")
        self._check(("teacher_size",), lambda value: value >= 0, "0 or more")
        self._check(("teacher_std",), lambda values: all(v > 0 for v in values), "more than 0")


def sizes_at(epoch: int, recipe: Recipe) -> Sequence[int]:
    """The sides that batches of `epoch` (from 0) may have."""
    late = recipe.late_sizes and epoch >= recipe.late_from * recipe.epochs
    return recipe.late_sizes if late else recipe.sizes


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        raise InputError(f"{message} (--help lists the flags)")


def parse(kind: Type[Kind], description: Optional[str], argv: Optional[List[str]] = None) -> Kind:
    """The recipe of class `kind` that the command line `argv` (by default sys.argv) asks for.

    `description` heads --help. Raises InputError for what is not understood.
    """
    parser = _Parser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for knob_ in fields(kind):
        options, default = dict(knob_.metadata), knob_.default
        flags = ["--" + knob_.name.replace("_", "-"), *options.pop("aliases")]
        if isinstance(default, bool):
            options["action"] = "store_true"
        else:
            shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
            options["help"] += f" [{shown}]"
            options.setdefault("type", type(default))
        parser.add_argument(*flags, dest=knob_.name, default=default, **options)
    return kind(**vars(parser.parse_args(argv)))
