"""Train SCFNet on photos with masks: the paper's FS-SCFNet, a teacher, or your own.

    python tools/train.py --data data/DUTS-TR --val data/ECSSD --output output/FS
    python tools/train.py --model R50 --output output/teacher            # the paper's teacher
    python tools/train.py --pretrained none --optimizer adamw --lr 0.006 --min-lr 0.00006 \\
        --weight-decay 0.02 --ema 0.998                                  # from scratch
    python tools/train.py --output output/FS --resume auto               # go on after a stop
    python tools/train.py --dry-run                                      # time and memory it takes

On your own photos, from a network that is trained already; a fifth is held back for scoring:

    python tools/train.py --finetune accurate --data data/mine --output output/mine
    python tools/train.py --finetune small --data data/mine --dry-run    # which flags it sets

On several devices, over which --batch-size is divided:

    python -m paddle.distributed.launch --gpus 0,1 tools/train.py ...
    python -m paddle.distributed.launch --nproc_per_node 2 tools/train.py ...   # CPU

Exit codes: 0 done, 1 the loss was not finite, 2 bad input, 129, 130 or 143 stopped and saved (the
terminal was closed, Ctrl-C, SIGTERM).
"""

import _repository  # noqa: F401

from SCFNet.cli import run


def main() -> int:
    from SCFNet.training.recipe import Recipe, parse

    recipe = parse(Recipe, __doc__)
    from SCFNet.engine import train  # after --help: it loads Paddle

    return train(recipe)


if __name__ == "__main__":
    run(main)
