"""Distillation: the training loop with a teacher's maps in place of masks, of tools/distill.py."""

from pathlib import Path
from typing import Dict, List, Optional, Sequence

import paddle
from paddle import Tensor

from datasets.sod import Sample, check_files, find_faults, has_masks, list_pairs
from SCFNet.engine import fit, hold_back, prepare
from SCFNet.errors import InputError
from SCFNet.files import first_few
from SCFNet.training.distributed import quiet
from SCFNet.training.label_cache import labelled_from, with_cached_labels
from SCFNet.training.recipe import DistillRecipe
from SCFNet.training.state import Target
from SCFNet.training.teacher import Teacher, open_teacher

SHOWN = 10  # unreadable photos that are listed


def distill(recipe: DistillRecipe) -> int:
    """Train a student towards a teacher's maps, as tools/distill.py does; see `engine.fit`."""
    prepare(recipe)
    photos = readable(list_pairs(recipe.data, labelled=False), recipe.skip_unreadable)
    if recipe.val:
        compared = list_pairs(recipe.val, "test", labelled=False)
    else:
        photos, compared = hold_back(photos, recipe.val_fraction)
    scored: Dict[str, Sequence[Sample]] = {}
    if recipe.val and has_masks(recipe.val):
        scored[""] = list_pairs(recipe.val, "test")
        check_files(scored[""])
    labelled = list_pairs(recipe.labelled) if recipe.labelled else []
    if labelled:
        check_files(labelled)

    if recipe.dry_run:
        compared = []
    if Path(recipe.teacher).is_dir():
        photos = labelled_from(photos, Path(recipe.teacher))
        check_files(photos)
        if compared and not recipe.val:
            scored["teacher-"] = labelled_from(compared, Path(recipe.teacher))
        return fit(recipe, photos + labelled, scored)

    teacher = open_teacher(recipe)
    if compared:
        folder = Path(recipe.output, "teacher-maps")
        scored["teacher-"] = with_cached_labels(teacher, compared, folder)
    if recipe.cache_labels and not recipe.dry_run:
        photos = with_cached_labels(teacher, photos, Path(recipe.cache_labels))
        return fit(recipe, photos + labelled, scored)
    return fit(recipe, photos + labelled, scored, taught_by(teacher))


def taught_by(teacher: Teacher) -> Target:
    """Return the target of a batch: each photo's mask, or the teacher's map if it has none."""

    def target(images: Tensor, masks: Optional[Tensor]) -> Tensor:
        preds = teacher.run(images)
        return preds if masks is None else paddle.where(paddle.isnan(masks), preds, masks)

    return target


def readable(samples: List[Sample], skip: bool) -> List[Sample]:
    """Keep the samples whose photos can be read, and list the others.

    Raises InputError if there are others and `skip` is false, or if all are unreadable.
    """
    faults = find_faults(samples)
    if not faults:
        return samples
    listed = first_few([fault for _, fault in faults], SHOWN, "; ")
    if not skip:
        raise InputError(f"{len(faults)} photos (--skip-unreadable leaves them out): {listed}")
    if not quiet():
        print(f"left out {len(faults)} unreadable photos:", *(f for _, f in faults), sep="\n  ")
    bad = {sample.stem for sample, _ in faults}
    kept = [sample for sample in samples if sample.stem not in bad]
    if not kept:
        raise InputError(f"none of the {len(samples)} photos can be read: {listed}")
    return kept
