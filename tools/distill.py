"""Distil any teacher into an SCFNet on photos without masks: the paper's KD-SCFNet.

    python tools/distill.py --teacher output/teacher/best.pdparams --data data/KD-SOD80K
    python tools/distill.py --teacher other.onnx --teacher-mean 123.7 116.3 103.5 \\
        --teacher-std 58.4 57.1 57.4 --teacher-size 320    # a teacher of another design
    python tools/distill.py --teacher maps/ --data photos/  # maps that were made elsewhere
    python tools/distill.py ... --cache-labels output/maps  # the teacher runs once, not each epoch
    python tools/distill.py ... --val data/ECSSD            # compare with the teacher each epoch

The whole recipe: tools/train.py --backbone R50 makes the teacher, this tool the student,
tools/eval.py the score. Everything else, several devices too, is as in tools/train.py.

Exit codes: 0 done, 1 the loss was not finite, 2 bad input, 130 or 143 stopped and saved.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from SCFNet.cli import run


def main() -> int:
    from SCFNet.checkpoint import check_weights, find_weights
    from SCFNet.training.recipe import DistillRecipe, parse

    recipe = parse(DistillRecipe, __doc__)
    if not Path(recipe.teacher).is_dir():  # which would hold maps
        check_weights(find_weights(recipe.teacher))
    from SCFNet.distill import distill  # after --help and a wrong name: it loads Paddle

    return distill(recipe)


if __name__ == "__main__":
    run(main)
