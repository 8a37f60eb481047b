"""One run of tools/eval.py: finding the sets and the methods, predicting where asked, scoring."""

import tempfile
from pathlib import Path
from typing import Dict, Iterable, List, Optional, Sequence, Tuple, TypeVar

from datasets.files import InputError
from datasets.layout import MASKS
from datasets.sod import list_folder, list_masks, list_pairs
from SCFNet.scoring.cost import Cost, cost_of
from SCFNet.scoring.tasks import PerImage, Result, pair_maps, score_tasks

T = TypeVar("T")


def named_path(text: str) -> Tuple[str, Path]:
    """Name and path of 'NAME=PATH', or of a folder or file, which is named after itself."""
    name, equals, path = text.partition("=")
    whole = Path(text)
    if not equals or whole.exists():
        return whole.stem if whole.is_file() else whole.name, whole
    return name, Path(path)


def by_name(items: Iterable[Tuple[str, T]]) -> Dict[str, T]:
    """The named items as a dict. Raises InputError where two have the same name."""
    named: Dict[str, T] = {}
    for name, item in items:
        if name in named:
            raise InputError(f"{name}: is named twice; give each its own name, as NAME=PATH")
        named[name] = item
    return named


def find_sets(masks: Optional[Path], roots: Sequence[Path]) -> Dict[str, Dict[str, Path]]:
    """The masks by stem of each set, by name: of one folder `masks`, or of data sets' folders."""
    if not masks:
        return by_name((root.resolve().name, list_masks(root)) for root in roots)
    place = masks.resolve()
    return {place.parent.name if place.name.lower() in MASKS else place.name: list_folder(masks)}


def evaluate(
    masks: Optional[Path],
    roots: Sequence[Path],
    maps: Sequence[str],
    weights: Sequence[str],
    device: str,
    save_maps: Optional[Path],
    protocol: str,
    workers: int,
    allow_missing: bool,
    per_image: Optional[PerImage],
) -> Tuple[List[Result], Dict[str, Cost]]:
    """The scores of every method on every set, and the costs of the checkpoints by name.

    The sets are one folder `masks`, or data sets `roots`. The methods are `maps` and `weights`,
    'NAME=PATH' each: folders of maps, with a folder for each set if there are `roots`; and
    checkpoints, whose maps are predicted and, with `save_maps`, kept there. The rest is that of
    `score_tasks`. Raises InputError for whatever does not fit.
    """
    sets = find_sets(masks, roots)
    methods = by_name(map(named_path, maps))
    costs = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name, file in by_name(map(named_path, weights)).items():
            folder = (save_maps or Path(temporary)) / name
            methods = by_name([*methods.items(), (name, folder)])
            costs[name] = cost_of(file)
            predict_sets(file, device, roots, folder, allow_missing)
        tasks = [
            pair_maps(method, data, folder / data if roots else folder, stems, allow_missing)
            for data, stems in sets.items()
            for method, folder in methods.items()
        ]
        return score_tasks(tasks, protocol, workers, allow_missing, per_image), costs


def predict_sets(
    weights: Path, device: str, roots: Sequence[Path], folder: Path, allow_missing: bool
) -> None:
    """Write the map of every photo of the data sets `roots` to `folder`/SET/STEM.png.

    Raises InputError for a checkpoint that does not fit, and for photos that cannot be read: with
    `allow_missing` they have no map.
    """
    from SCFNet.prediction.jobs import Job
    from SCFNet.prediction.pipeline import RenderOptions, predict_jobs
    from SCFNet.predictor import Predictor

    jobs = [
        Job(sample.image, (folder / root.resolve().name / f"{sample.stem}.png",))
        for root in roots
        for sample in list_pairs(root, "test")
    ]
    errors = predict_jobs(Predictor(weights, device=device), jobs, RenderOptions())
    if errors and not allow_missing:
        raise InputError(f"{len(errors)} of {len(jobs)} photos failed: {errors[0]}")
