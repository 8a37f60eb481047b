"""Pixels of more than 8 bits: what counts as white in them, and how they become 8 bits."""

from typing import Union

import numpy as np

WHITES = (1.0, 255.0, 65535.0)


def white_of(largest: float) -> float:
    """Find the customary white, of 1, 255 and 65535, that `largest` does not exceed; else
    `largest`.
    """
    return next((white for white in WHITES if largest <= white), float(largest))


def check_numbers(pixels: np.ndarray) -> None:
    """Raise ValueError if some of the pixels are NaN or infinite, or all are negative numbers."""
    if not np.isfinite(pixels).all():
        raise ValueError("its pixels are not all numbers")
    if pixels.size and pixels.max() < 0:
        raise ValueError("its pixels are negative")


def to_8_bits(pixels: np.ndarray, white: Union[float, np.ndarray]) -> np.ndarray:
    """Scale to uint8 of the same shape: 0 stays, `white` becomes 255, the rest is clipped."""
    return np.rint(np.clip(pixels / np.float32(white), 0, 1) * 255).astype("uint8")
