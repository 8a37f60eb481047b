"""From a photo to a network's input."""

import cv2
import numpy as np

from SCFNet.photos.transform import MEAN, STD, Normalisation, network_input
from tests.conftest import photo


def test_normalising_after_the_resize_equals_doing_it_before():
    image = photo(3, 90, 120)
    before = cv2.resize((image.astype("float64") - MEAN) / STD, (64, 64)).transpose(2, 0, 1)
    np.testing.assert_allclose(network_input([image], 64)[0], before, atol=1e-4)


def test_a_network_may_have_its_own_mean_and_standard_deviation():
    image = photo(3, 90, 120)
    release = network_input([image], 64)[0] * STD[:, None, None] + MEAN[:, None, None]
    own = network_input([image], 64, Normalisation((10, 20, 30), (1, 2, 4)))[0]
    np.testing.assert_allclose(own[1], (release[1] - 20) / 2, atol=1e-4)
    np.testing.assert_allclose(own[2], (release[2] - 30) / 4, atol=1e-4)
