"""The knobs of a training run: defaults (the paper's), command-line flags, checks.

One dataclass is all three, so that a knob is written once. `tools/train.py` uses `Recipe`,
`tools/distill.py` a child of it.
"""

import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import (
    Any,
    Callable,
    Dict,
    List,
    Optional,
    Sequence,
    Tuple,
    Type,
    TypeVar,
    Union,
    get_args,
    get_type_hints,
)

from SCFNet.checkpoint import find_weights, load_network
from SCFNet.cli import Parser, as_flag, filled
from SCFNet.device import parse_device
from SCFNet.errors import ArgumentError
from SCFNet.photos.transform import check_size
from SCFNet.zoo import NETWORKS, ZOO

SCHEDULES = ("paper", "release")  # of PBSM's kernel size
SIZES = (224, 256, 288, 320, 352)
SWIN_SIZE = 384  # at which the release trains ST
UNTOLD = ("data", "val", "output", "dry_run", "device")  # of the changed flags
Kind = TypeVar("Kind", bound="Recipe")

# What --finetune sets unless a flag does.
FINETUNE: Dict[str, Any] = {
    "val_fraction": 0.2,
    "epochs": 15,
    "batch_size": 6,
    "sizes": [256, 288],
    "optimizer": "adamw",
    "lr": 0.004,
    "min_lr": 0.00004,
    "warmup_epochs": 1.0,
    "backbone_lr_scale": 0.5,
    "loss": "bce+sp",
    "kernel_size": "5",
    "output": "output/finetune",
}
FINETUNE_HELP = (
    "teach your own objects to a trained network: accurate, small (the shipped ones) or a file; "
    "sets those flags above that you do not give, and --dry-run prints them"
)


def knob(
    default: Any,
    text: str,
    *aliases: str,
    nargs: Union[int, str, None] = None,
    choices: Optional[Sequence[str]] = None,
    metavar: Optional[str] = None,
) -> Any:
    """Return a dataclass field that carries its flag and its line of --help.

    Args:
        default: None, "" or () is one that `text` puts into words.
        text: the line of --help, which stands alone.
        aliases: other spellings of the flag, the release's among them.
        nargs: how many values there are, if not one: a number, or "+" for one or more.
        choices: all that the value may be.
        metavar: what stands for the value in --help.
    """
    options = {"nargs": nargs, "choices": choices, "metavar": metavar}
    given = {name: option for name, option in options.items() if option is not None}
    return field(default=default, metadata={"help": text, "aliases": aliases, **given})


def default_sizes(model: str) -> Tuple[int, ...]:
    """Return the sides at which the release trains `model`, in pixels."""
    return (SWIN_SIZE,) if model == "ST" else SIZES


# Which numbers each of these knobs may have.
RANGES: Tuple[Tuple[str, Callable[[float], bool], str], ...] = (
    ("more than 0", lambda x: x > 0, "epochs batch_size accumulate lr min_lr val_every"),
    ("more than 0", lambda x: x > 0, "teacher_size teacher_std"),
    ("a number", lambda x: True, "teacher_mean"),
    ("0 or more", lambda x: x >= 0, "warmup_epochs momentum weight_decay backbone_lr_scale"),
    ("0 or more", lambda x: x >= 0, "workers seed log_every patience keep_last save_every"),
    ("from 0 to 1", lambda x: 0 <= x <= 1, "late_from copy_paste zoom vertical_flip"),
    ("0 or more, and less than 1", lambda x: 0 <= x < 1, "val_fraction ema"),
)


@dataclass(frozen=True)
class Recipe:
    """How to train; the defaults reproduce the paper.

    Raises ArgumentError for impossible values. The lines are those of --help.
    """

    # the data
    data: str = knob(
        "data/DUTS-TR", "folder with image/ and mask/, or images/ and masks/", "--datapath"
    )
    val: str = knob(
        "", "labelled folder that is scored each epoch, by MAE and Max-F; default: none"
    )
    val_fraction: float = knob(0.0, "without --val: part of --data to hold back for scoring")
    val_size: Optional[int] = knob(
        None, "side of the network's input in scoring; default: the network's own"
    )
    val_every: int = knob(1, "score every N epochs, and after the last")
    skip_unreadable: bool = knob(False, "decode all files first, and leave out what is damaged")
    # the network
    model: str = knob(
        "M3_0.5",
        f"network, SCFNet by the name of its backbone: {', '.join(NETWORKS)}",
        "--backbone",
        "--model_type",
        choices=NETWORKS,
        metavar="NAME",
    )
    decoder: str = knob(
        "scfm",
        "decoder of SCFNet; base is the baseline of the paper's ablation",
        choices=("scfm", "base"),
    )
    pretrained: str = knob(
        "imagenet",
        "starting weights: imagenet, none, or a file with those of a backbone or a whole network",
        "--snapshot",
    )
    # the schedule
    epochs: int = knob(69, "passes over the data", "--epoch")
    batch_size: int = knob(128, "images a step, over all devices together", "--train_bs")
    accumulate: int = knob(
        1, "parts in which a device works through its images of a step, to save memory"
    )
    lr: float = knob(0.064, "highest learning rate", "--Max_LR")
    min_lr: float = knob(0.00064, "first and last learning rate", "--Min_LR")
    warmup_epochs: float = knob(5.0, "epochs in which the learning rate rises", "--top_epoch")
    optimizer: str = knob(
        "momentum",
        "optimizer; momentum is the paper's SGD; adamw gets further in few epochs from scratch, "
        "with --lr 0.006 --weight-decay 0.02",
        choices=("momentum", "adamw"),
    )
    momentum: float = knob(0.9, "momentum of SGD", "--momen")
    weight_decay: float = knob(
        5e-4, "L2 decay of all weights but the MobileNetV3 backbone's batch norms", "--decay"
    )
    backbone_lr_scale: Optional[float] = knob(
        None,
        "the backbone's learning rate, as a part of the others'; default: 0.1, or 1 from scratch",
    )
    ema: float = knob(
        0.0, "decay of averaged weights, such as 0.999, which are then scored and written; 0 is off"
    )
    # the loss
    loss: str = knob(
        "sp", "loss of each of the four maps: sp, dice, bce, or a sum of them, such as bce+sp"
    )
    kernel_size: str = knob(
        "paper",
        "kernel size of SP's boundary: PBSM's staircase as in the paper or in the release's code, "
        "or a fixed odd number",
        "--boundary",
    )
    # the augmentation
    sizes: Tuple[int, ...] = knob(
        (),
        "sides of the input, of which each batch draws one; default: "
        f"{' '.join(map(str, SIZES))}, and {SWIN_SIZE} of ST",
        nargs="+",
    )
    late_sizes: Tuple[int, ...] = knob(
        (), "sides of the input in the late epochs; default: --sizes", nargs="+"
    )
    late_from: float = knob(0.7, "part of the epochs after which --late-sizes begin")
    augment: str = knob(
        "release",
        "augmentation; paper has flips, crops and sizes, but not the release's blur and light; "
        "strong, for runs that overfit, has larger crops, colours, pasted objects",
        choices=("release", "paper", "strong", "none"),
    )
    copy_paste: Optional[float] = knob(
        None,
        "chance that another photo's object is pasted onto a photo; default: 0, or 0.3 with "
        "--augment strong",
    )
    zoom: float = knob(0.0, "chance of a crop so close that the frame cuts the object; needs masks")
    vertical_flip: float = knob(
        0.2, "chance that a photo is turned upside down; 0 suits photos whose objects stand upright"
    )
    # the run
    workers: int = knob(4, "threads that load images, for each device; 0 is none")
    amp: bool = knob(False, "train in mixed precision, with a loss scaler, if on a GPU")
    seed: int = knob(0, "seed of the weights, the order and the augmentation")
    device: str = knob("auto", "device to train on: auto, cpu, gpu or gpu:N")
    deterministic: bool = knob(
        False, "on a GPU: let cuDNN take only algorithms that give the same numbers each time"
    )
    output: str = knob(
        "output/train",
        "folder for last.pdparams, best.pdparams, the state and log.jsonl",
        "--savepath",
    )
    log_dir: str = knob(
        "", "folder for VisualDL's curves and predicted maps; default: none", "--log_dir"
    )
    log_every: int = knob(30, "print the losses every N steps; 0 is never", "--show_step")
    resume: str = knob(
        "",
        "auto goes on with the run in --output, if there is one; a state file (last.state) with "
        "that run; default: begin a new one",
    )
    patience: int = knob(0, "stop when N scorings in a row were not the best; 0 is never")
    keep_last: int = knob(0, "keep the weights of the last N epochs, as epoch-1.pdparams")
    save_every: int = knob(0, "save every N steps too; 0 is only after each epoch")
    dry_run: bool = knob(False, "do two steps, report memory and time, write nothing")

    def __post_init__(self) -> None:
        for one in fields(self):
            object.__setattr__(self, one.name, plain(getattr(self, one.name)))
        if not self.sizes:
            object.__setattr__(self, "sizes", default_sizes(self.model))
        for wanted, holds, names in RANGES:
            for name, value in self._numbers(names):
                if not (math.isfinite(value) and holds(value)):
                    raise ArgumentError(name, f"must be {wanted}, not {value}")
        for name, side in self._numbers("val_size sizes late_sizes"):
            check_size(name, side)
        odd = self.kernel_size.isdecimal() and int(self.kernel_size) % 2
        if self.kernel_size not in SCHEDULES and not odd:
            raise ArgumentError(
                "kernel_size", f"must be paper, release or an odd number, not {self.kernel_size}"
            )
        if self.decoder != "scfm" and self.model in ZOO:
            raise ArgumentError("decoder", f"{self.model} has a decoder of its own")
        parse_device(self.device)
        if self.patience and not (self.val or self.val_fraction):
            raise ArgumentError("patience", "needs --val or --val-fraction, to score on")

    def _numbers(self, names: str) -> List[Tuple[str, Any]]:
        """List the numbers that these knobs have, each with its knob's name."""
        found = [
            (name, value) for name in names.split() for value in as_tuple(getattr(self, name, None))
        ]
        return [(name, value) for name, value in found if value is not None]


@dataclass(frozen=True)
class DistillRecipe(Recipe):
    """How to distil: `Recipe`, and the teacher."""

    data: str = knob("data/KD-SOD80K", "folder of photos without masks, at any depth", "--datapath")
    labelled: str = knob(
        "",
        "folder with image/ and mask/, whose photos learn from their masks in the same run; "
        "default: none, as in the paper",
    )
    val: str = knob(
        "",
        "folder of photos on which student and teacher are compared each epoch; if it has masks, "
        "the student is scored by them too, and by them alone if folders of maps teach; "
        "default: none",
    )
    val_fraction: float = knob(
        0.0, "without --val: part of --data to hold back for the comparison with the teacher"
    )
    loss: str = knob(
        "dice", "loss of each of the four maps: sp, dice, bce, or a sum of them, such as bce+dice"
    )
    output: str = knob(
        "output/distill",
        "folder for last.pdparams, best.pdparams, the state and log.jsonl",
        "--savepath",
    )
    # the teacher
    teacher: Tuple[str, ...] = knob(
        (),
        "teacher: small or accurate (the shipped ones), a .pdparams file of this repository's "
        "networks, an .onnx file, or a folder of maps, one for each photo; several such folders "
        "are several teachers, joined by the sum of their logits, each clipped to [-3, 3]",
        nargs="+",
    )
    teacher_size: Optional[int] = knob(
        None,
        "side of the teacher's input; default: what the file demands, 384 of ST, or the batch's",
    )
    teacher_mean: Tuple[float, ...] = knob(
        (),
        "what an .onnx teacher wants subtracted from R, G, B in [0, 255]; default: what the file "
        "says, or SCFNet's",
        nargs=3,
    )
    teacher_std: Tuple[float, ...] = knob(
        (),
        "what an .onnx teacher wants R, G, B, less the mean, divided by; default: what the file "
        "says, or SCFNet's",
        nargs=3,
    )
    teacher_output: str = knob(
        "sigmoid",
        "what an .onnx teacher gives: probabilities (sigmoid) or logits",
        choices=("sigmoid", "logits"),
    )
    teacher_input_name: str = knob(
        "", "name of an .onnx teacher's input; default: its only one of four dimensions"
    )
    teacher_output_name: str = knob("", "name of an .onnx teacher's output; default: its first")
    cache_labels: str = knob(
        "",
        "folder for the maps of a teacher that is a network, which is then run only once; several "
        "processes and machines may fill one folder; default: none",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "teacher", as_tuple(self.teacher))
        if not self.teacher or not all(self.teacher):
            raise ArgumentError(
                "teacher", "name a .pdparams file, an .onnx file or a folder of maps"
            )
        if len(self.teacher) > 1 and not self.teacher_maps:
            other = next(one for one in self.teacher if not Path(one).is_dir())
            raise ArgumentError(
                "teacher",
                f"{other}: is no folder: several teachers are folders of maps, as "
                "tools/predict.py --output writes them",
            )

    @property
    def teacher_maps(self) -> List[Path]:
        """The folders of maps that teach, if the teachers are such."""
        folders = [Path(one) for one in self.teacher]
        return folders if all(folder.is_dir() for folder in folders) else []


def parse(kind: Type[Kind], description: Optional[str], argv: Optional[List[str]] = None) -> Kind:
    """Read the recipe of class `kind` from the command line `argv`, by default sys.argv.

    `description` heads --help. Raises InputError for what is not understood, and CheckpointError
    for a --finetune file that cannot be read, or is of no network of this repository.
    """
    parser = Parser(description, allow_abbrev=False)
    hints = get_type_hints(kind)
    for one in fields(kind):
        options: Dict[str, Any] = {**one.metadata, "dest": one.name, "default": one.default}
        flags = [as_flag(one.name), *options.pop("aliases")]
        value_type = next(iter(get_args(hints[one.name])), hints[one.name])  # int of Optional[int]
        if value_type is bool:
            options["action"] = "store_true"
        else:
            options["type"] = filled if value_type is str and one.default else value_type
            options.setdefault("metavar", {int: "N", float: "X"}.get(value_type))
            if one.default not in (None, "", ()):
                options["help"] += f"; default: {' '.join(as_texts(one.default))}"
        parser.add_argument(*flags, **options)
    parser.set_defaults(finetune=None)
    if kind is Recipe:
        parser.add_argument("--finetune", metavar="FILE", help=FINETUNE_HELP)
    weights = parser.parse_args(argv).finetune
    if weights is not None:
        path = find_weights(weights)
        parser.set_defaults(**FINETUNE, pretrained=str(path), model=load_network(path)[0])
    given: Dict[str, Any] = vars(parser.parse_args(argv))
    del given["finetune"]
    given.update({name: tuple(value) for name, value in given.items() if isinstance(value, list)})
    return kind(**given)


def changed_flags(recipe: Recipe) -> List[str]:
    """Return the knobs that are not the defaults of their class, as a command line."""
    changed = []
    for one in fields(recipe):
        value = getattr(recipe, one.name)
        default = default_sizes(recipe.model) if one.name == "sizes" else one.default
        if value != default and one.name not in UNTOLD:
            changed += [as_flag(one.name), *as_texts(value)]
    return changed


def as_texts(value: Any) -> List[str]:
    """Return the values of a knob as they are given on the command line."""
    return [f"{v:g}" if isinstance(v, float) else str(v) for v in as_tuple(value)]


def plain(value: Any) -> Any:
    """Return the value of a knob as its flag gives it, and as a state file can hold it: a list as a
    tuple, a path as text.
    """
    if isinstance(value, (list, tuple)):
        return tuple(map(plain, value))
    return str(value) if isinstance(value, Path) else value


def as_tuple(value: Any) -> Tuple:
    """Return the values of a knob, one or many, as a tuple."""
    return value if isinstance(value, tuple) else (value,)
