"""Scoring while training: the scores are those of the network's maps."""

import cv2
import numpy as np

from datasets.sod import Sample
from SCFNet.net import SaliencyNet
from SCFNet.training import validation


class Echo(SaliencyNet):
    """A network whose map is the photo's first channel, or its opposite."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return [x[:, :1] * self.factor]


def test_scores_are_those_of_the_maps(tmp_path):
    samples = []
    for i in range(3):
        mask = np.zeros((40, 50), "uint8")
        mask[10:30, 5 + 5 * i : 30] = 255
        for kind, array in (("image", np.dstack([mask] * 3)), ("mask", mask)):
            cv2.imwrite(str(tmp_path / f"{kind}{i}.png"), array)
        paths = tmp_path / f"image{i}.png", tmp_path / f"mask{i}.png"
        samples.append(Sample(str(i), *paths))
    right = validation.evaluate(Echo(4), samples, 40, batch_size=2)
    assert right["MAE"] < 0.02 and right["Max-F"] > 0.95
    wrong = validation.evaluate(Echo(-1), samples, 40)
    assert wrong["MAE"] > 0.9 and wrong["Max-F"] < 0.5
