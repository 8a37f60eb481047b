"""Find the salient object in photos and videos: the command `scfnet`, which --help describes.

python tools/predict.py photo.jpg --save mask cutout overlay
"""

import _repository  # noqa: F401

from SCFNet.prediction.command import run_command

if __name__ == "__main__":
    run_command()
