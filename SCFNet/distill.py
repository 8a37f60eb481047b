"""Distillation: the training loop with a teacher's maps in place of masks, of tools/distill.py."""

from pathlib import Path
from typing import List

from datasets.files import InputError, first_few
from datasets.sod import Sample, check_files, find_faults, has_masks, list_pairs
from SCFNet.engine import fit, hold_back
from SCFNet.training.distributed import quiet, start_devices
from SCFNet.training.label_cache import labelled_from, with_cached_labels
from SCFNet.training.recipe import DistillRecipe
from SCFNet.training.teacher import open_teacher


def distill(recipe: DistillRecipe) -> int:
    """Train a student towards a teacher's maps, as tools/distill.py does; see `engine.fit`."""
    start_devices(recipe.device)
    samples = readable(list_pairs(recipe.data, labelled=False), recipe.skip_unreadable)
    if recipe.val:
        compared = list_pairs(recipe.val, "test", labelled=False)
    else:
        samples, compared = hold_back(samples, recipe.val_fraction)
    scored = {}
    if recipe.val and has_masks(recipe.val):
        scored[""] = list_pairs(recipe.val, "test")
        check_files(scored[""])

    if recipe.dry_run:
        compared, recipe.cache_labels = [], ""
    if Path(recipe.teacher).is_dir():
        samples = labelled_from(samples, Path(recipe.teacher))
        check_files(samples)
        if compared and not recipe.val:
            scored["teacher-"] = labelled_from(compared, Path(recipe.teacher))
        return fit(recipe, samples, scored)

    teacher = open_teacher(recipe)
    if compared:
        scored["teacher-"] = with_cached_labels(
            teacher, compared, Path(recipe.output, "teacher-maps")
        )
    if recipe.cache_labels:
        return fit(recipe, with_cached_labels(teacher, samples, Path(recipe.cache_labels)), scored)
    return fit(recipe, samples, scored, lambda images, _: teacher.run(images))


def readable(samples: List[Sample], skip: bool) -> List[Sample]:
    """The samples whose photos can be read. Others are listed; without `skip` InputError."""
    faults = find_faults(samples)
    if not faults:
        return samples
    listed = first_few([fault for _, fault in faults], 10, "; ")
    if not skip:
        raise InputError(f"{len(faults)} photos (--skip-unreadable leaves them out): {listed}")
    if not quiet():
        print(f"left out {len(faults)} unreadable photos:", *(f for _, f in faults), sep="\n  ")
    bad = {sample.stem for sample, _ in faults}
    kept = [sample for sample in samples if sample.stem not in bad]
    if not kept:
        raise InputError(f"none of the {len(samples)} photos can be read: {listed}")
    return kept
