"""Distil any teacher into an SCFNet on photos without masks: the paper's KD-SCFNet.

    python tools/distill.py --teacher accurate --data data/KD-SOD80K
    python tools/distill.py --teacher TEACHER.onnx --teacher-mean 123.7 116.3 103.5 \\
        --teacher-std 58.4 57.1 57.4 --teacher-size 320    # a teacher of another design
    python tools/distill.py --teacher MAPS --data PHOTOS   # a folder of maps made elsewhere
    python tools/distill.py --teacher MAPS OTHERS MORE --data PHOTOS    # those of several teachers
    python tools/distill.py ... --cache-labels output/maps # the teacher runs once, not each epoch
    python tools/distill.py ... --val data/ECSSD           # compare with the teacher each epoch
    python tools/distill.py ... --labelled data/DUTS-TR    # learn from masks, too, in the same run

The whole recipe: tools/train.py --model R50 makes the teacher, this tool the student,
tools/eval.py the score. With --labelled, which is not the paper's, photos learn from the teacher's
maps and pairs from their masks, by one loss (--loss). Everything else, several devices too, is as
in tools/train.py.

Exit codes: 0 done, 1 the loss was not finite, 2 bad input, 129, 130 or 143 stopped and saved (the
terminal was closed, Ctrl-C, SIGTERM).
"""

import _repository  # noqa: F401

from SCFNet.cli import run


def main() -> int:
    from SCFNet.checkpoint import check_weights, find_weights
    from SCFNet.training.recipe import DistillRecipe, parse

    recipe = parse(DistillRecipe, __doc__)
    if not recipe.teacher_maps:
        check_weights(find_weights(recipe.teacher[0]))
    from SCFNet.distill import distill  # after --help and a wrong name: it loads Paddle

    return distill(recipe)


if __name__ == "__main__":
    run(main)
