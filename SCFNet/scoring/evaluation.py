"""One run of tools/eval.py: finding the sets and the methods, predicting if asked."""

import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, TypeVar

from datasets.layout import MASKS
from datasets.sod import list_folder, list_masks, list_pairs
from SCFNet.checkpoint import find_weights
from SCFNet.errors import InputError
from SCFNet.scoring.cost import Cost, cost_of
from SCFNet.scoring.tasks import Task, pair_maps

T = TypeVar("T")


class Sources(NamedTuple):
    """The sets and the methods to score: every method on every set.

    The sets are one folder `masks`, or the data sets' folders `data`. The methods are `maps` and
    `weights`, 'NAME=PATH' each: folders of maps, with a folder for each set if there are `data`;
    and checkpoints, which predict on `device`, at `size` pixels (None: the network's own), resizing
    maps with `align_corners` or not, and whose maps are kept in `save_maps` if given.
    """

    masks: Optional[Path] = None
    data: Sequence[Path] = ()
    maps: Sequence[str] = ()
    weights: Sequence[str] = ()
    device: str = "auto"
    size: Optional[int] = None
    align_corners: bool = False
    save_maps: Optional[Path] = None


@contextmanager
def find_tasks(
    sources: Sources, allow_missing: bool = False
) -> Iterator[Tuple[List[Task], Dict[str, Cost]]]:
    """Provide the tasks, every method on every set, and the costs of the checkpoints by method.

    The checkpoints predict first; their maps stay until the block ends. Raises InputError for
    whatever does not fit.
    """
    sets = find_sets(sources.masks, sources.data)
    named = map(named_path, sources.weights)
    checkpoints = by_name((name, find_weights(path)) for name, path in named)
    costs = {}
    with tempfile.TemporaryDirectory() as temporary:
        predicted = {name: (sources.save_maps or Path(temporary)) / name for name in checkpoints}
        methods = by_name([*map(named_path, sources.maps), *predicted.items()])
        for name, file in checkpoints.items():
            costs[name] = cost_of(file, sources.size)
            predict_sets(file, sources, predicted[name], allow_missing)
        tasks = [
            pair_maps(method, data, folder / data if sources.data else folder, stems, allow_missing)
            for data, stems in sets.items()
            for method, folder in methods.items()
        ]
        for note in filter(None, (task.note for task in tasks)):
            say(note)
        yield tasks, costs


def named_path(text: str) -> Tuple[str, Path]:
    """Split 'NAME=PATH' into name and path; a folder or file alone is named after itself."""
    name, equals, path = text.partition("=")
    whole = Path(text)
    if not equals or whole.exists():
        return whole.stem if whole.is_file() else whole.name or whole.resolve().name, whole
    if not name or not path:
        raise InputError(f"{text}: has no name or no path; write NAME=PATH")
    return name, Path(path)


def by_name(items: Iterable[Tuple[str, T]]) -> Dict[str, T]:
    """Collect named items in a dict. Raises InputError if two have the same name."""
    named: Dict[str, T] = {}
    for name, item in items:
        if name in named:
            raise InputError(f"{name}: is named twice; give each its own name, as NAME=PATH")
        named[name] = item
    return named


def find_sets(masks: Optional[Path], data: Sequence[Path]) -> Dict[str, Dict[str, Path]]:
    """List the masks of each set: {set: {stem: path}}, of one folder `masks` or of data sets'
    folders.
    """
    if not masks:
        return {name: list_masks(root, say=say) for name, root in name_sets(data).items()}
    place = masks.resolve()
    return {place.parent.name if place.name.lower() in MASKS else place.name: list_folder(masks)}


def name_sets(data: Sequence[Path]) -> Dict[str, Path]:
    """Name data sets after their folders, with as many of those above as tell them apart.

    Raises InputError for a folder that is given twice.
    """
    roots = [root.resolve() for root in data]
    named: Dict[str, Path] = {}
    for root in roots:
        if roots.count(root) > 1:
            raise InputError(f"{root}: is named twice")
        depth = 1
        while any(one.parts[-depth:] == root.parts[-depth:] for one in roots if one != root):
            depth += 1
        named["/".join(root.parts[-depth:])] = root
    return named


def say(line: str) -> None:
    """Print a line beside the table."""
    print(line, file=sys.stderr)


def predict_sets(weights: Path, sources: Sources, folder: Path, allow_missing: bool) -> None:
    """Write the map of every photo of the data sets to `folder`/SET/STEM.png.

    Raises InputError for `weights` that do not fit and, unless `allow_missing`, for photos that
    cannot be read.
    """
    from SCFNet.prediction.jobs import Job
    from SCFNet.prediction.pipeline import predict_jobs
    from SCFNet.prediction.rendering import RenderOptions
    from SCFNet.predictor import Predictor

    jobs = [
        Job(sample.image, (folder / name / f"{sample.stem}.png",))
        for name, root in name_sets(sources.data).items()
        for sample in list_pairs(root, "test")
    ]
    predictor = Predictor(weights, device=sources.device, size=sources.size)
    errors = predict_jobs(predictor, jobs, RenderOptions(align_corners=sources.align_corners))
    if errors and not allow_missing:
        raise InputError(f"{len(errors)} of {len(jobs)} photos failed: {errors[0]}")
