"""Distillation: the training loop with a teacher's maps in place of masks, of tools/distill.py."""

from pathlib import Path
from typing import Dict, Optional, Sequence

import paddle
from paddle import Tensor

from datasets.sod import Sample, check_files, has_masks, list_pairs
from SCFNet.engine import fit, hold_back, prepare
from SCFNet.training.distributed import say
from SCFNet.training.label_cache import labelled_from, with_cached_labels
from SCFNet.training.recipe import DistillRecipe
from SCFNet.training.state import Target, new_run
from SCFNet.training.teacher import Teacher, open_teacher, resized


def distill(recipe: DistillRecipe) -> int:
    """Train a student towards a teacher's maps, as tools/distill.py does; see `engine.fit`."""
    prepare(recipe)
    skip = recipe.skip_unreadable
    photos = check_files(list_pairs(recipe.data, labelled=False, say=say), skip, say)
    if recipe.teacher_maps:  # found for all photos at once, as a common word of names needs many
        photos = check_files(labelled_from(photos, recipe.teacher_maps), skip, say)
    if recipe.val:
        compared = check_files(list_pairs(recipe.val, "test", labelled=False), skip)
    else:
        photos, compared = hold_back(photos, recipe.val_fraction)
    scored: Dict[str, Sequence[Sample]] = {}
    if recipe.val and (recipe.teacher_maps or has_masks(recipe.val)):
        scored[""] = check_files(list_pairs(recipe.val, "test", say=say), skip, say)
    labelled = []
    if recipe.labelled:
        labelled = check_files(list_pairs(recipe.labelled, say=say), skip, say)

    if recipe.dry_run:
        compared = []
    if recipe.teacher_maps:
        if recipe.cache_labels:
            say("--cache-labels: not used, the teacher's maps are files already")
        if compared and not recipe.val:
            scored["teacher-"] = compared
        return fit(new_run(recipe, photos + labelled, scored))

    teacher = open_teacher(recipe)
    if compared:
        folder = Path(recipe.output, "teacher-maps")
        scored["teacher-"] = with_cached_labels(teacher, compared, folder)
    if recipe.cache_labels and not recipe.dry_run:
        photos = with_cached_labels(teacher, photos, Path(recipe.cache_labels))
        return fit(new_run(recipe, photos + labelled, scored))
    return fit(new_run(recipe, photos + labelled, scored, taught_by(teacher), teacher.size))


def taught_by(teacher: Teacher) -> Target:
    """Return the target of a batch: each photo's mask, or the teacher's map if it has none."""

    def target(images: Tensor, masks: Optional[Tensor], teacher_images: Tensor) -> Tensor:
        preds = resized(teacher.run(teacher_images), images.shape[-1])
        return preds if masks is None else paddle.where(paddle.isnan(masks), preds, masks)

    return target
