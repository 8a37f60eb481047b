"""SCFNet/metrics.py: the reference's numbers, degenerate input, and agreement with pysodmetrics."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from SCFNet.metrics import PaperScore

DATA = Path(__file__).parent / "data"


def reference_pairs():
    for path in sorted((DATA / "metrics_seed11" / "gt").iterdir()):
        yield (
            cv2.imread(str(DATA / "metrics_seed11" / "maps" / path.name), cv2.IMREAD_GRAYSCALE),
            cv2.imread(str(path), cv2.IMREAD_GRAYSCALE),
        )


def test_paper_protocol_gives_the_toolbox_values():
    score = PaperScore()
    for saliency_map, mask in reference_pairs():
        score.add(saliency_map, mask)
    expected = json.loads((DATA / "metrics_seed11.json").read_text())
    assert score.result() == pytest.approx(expected, abs=1e-6)


def test_merged_halves_equal_the_whole():
    whole, halves = PaperScore(), [PaperScore(), PaperScore()]
    for number, (saliency_map, mask) in enumerate(reference_pairs()):
        whole.add(saliency_map, mask)
        halves[number % 2].add(saliency_map, mask)
    halves[0].merge(halves[1])
    assert halves[0].count == whole.count == 8
    assert halves[0].result() == pytest.approx(whole.result(), abs=1e-12)


def test_a_perfect_map_scores_one():
    mask = np.zeros((20, 30), np.uint8)
    mask[5:12, 8:20] = 255
    own = PaperScore().add(mask, mask)
    assert own["MAE"] == 0
    assert own["E-measure"] == pytest.approx(600 / 599)
    assert [own[name] for name in ("S-measure", "Adp-F", "Wgt-F", "Max-F")] == pytest.approx(
        [1] * 4
    )
