"""Roughness of cut-outs of smooth shapes, in cells of the networks' grid of 88 a side."""

from itertools import product
from typing import List, Tuple

import cv2
import numpy as np

from SCFNet.checkpoint import SHIPPED
from SCFNet.predictor import Predictor
from SCFNet.scoring.tables import Row


def measure_all(shapes: int = 8, sides: Tuple[int, ...] = (500, 1500, 4000)) -> List[Row]:
    """Measure cut-outs of the shipped networks: mean `roughness`, and the alpha of thin parts."""
    rows, made = [], [make_photos(seed) for seed in range(shapes)]
    for (name, file), side in product(SHIPPED.items(), sides):
        predictor, size, found = Predictor(file, threads=0), (side, side * 2 // 3), []
        for *parts, outline in made:
            photo, legged, legs = (cv2.resize(p, size, None, 0, 0, cv2.INTER_AREA) for p in parts)
            thin = np.average(predictor.cutout(legged)[..., 3] / 255, weights=legs)
            alpha, cell = predictor.cutout(photo)[..., 3], (size[0] * size[1]) ** 0.5 / 88
            found.append([*roughness(alpha, outline * side / 4000, cell), float(thin)])
        columns = ("network", "photo", "roughness, cells", "error, cells", "alpha of thin parts")
        rows.append(dict(zip(columns, [name, side, *np.mean(found, 0).tolist()])))
    return rows


def roughness(alpha: np.ndarray, outline: np.ndarray, cell: float) -> Tuple[float, float]:
    """Measure how far the edge of `alpha` uint8 [H, W], 128, is from a smooth outline, complex [n],
    evenly spaced corners x + iy, clockwise: the RMS of the distance less its mean along the outline
    (Gaussian, standard deviation two cells: waves up to about ten cells remain), and the RMS of the
    distance; in cells of `cell` pixels. The edge is sought on normals, two cells either way.
    """
    ahead = np.roll(outline, -1) - outline
    normals = np.linspace(-2, 2, 513)[:, None] * cell * -1j * ahead / np.abs(ahead)
    places = (outline + ahead / 2 + normals - 0.5 - 0.5j).astype("complex64")
    reached = cv2.remap(alpha, places.real, places.imag, cv2.INTER_LINEAR) >= 128
    distance = 4 * reached.mean(0) - 2
    gains = np.exp(-2 * (2 * np.pi * np.fft.fftfreq(len(ahead), np.abs(ahead).mean() / cell)) ** 2)
    mean = np.fft.ifft(np.fft.fft(distance) * gains).real
    return float((distance - mean).std()), float((distance**2).mean() ** 0.5)


def make_photos(seed: int) -> Tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Lay a rounded shape over a texture: RGB uint8 [2666, 4000, 3]; again with three legs, 1 to
    3 % of the shorter side wide; their mask, uint8 [2666, 4000]; the outline for `roughness`.
    """
    rng, circle = np.random.default_rng(seed), np.exp(2j * np.pi * np.arange(4096) / 4096)
    bends = rng.uniform(0, [0.25, 0.12, 0.06]) * np.exp(2j * np.pi * rng.random(3))
    points = rng.uniform(1600, 2400) + 1333j + 750 * (circle + bends @ circle ** [[-1], [-2], [-3]])
    ways = np.cumsum(np.abs(np.diff(points, prepend=points[:1])))
    points = np.interp(np.linspace(0, ways[-1], 1024), ways, points)
    shape, legs = np.zeros((2, 2666, 4000), "uint8")
    cv2.fillPoly(shape, [points.view(float).reshape(-1, 2).astype("int32")], 255, cv2.LINE_AA)
    for point, width in zip(points[:1023:341], (27, 53, 80)):
        ends = np.array([point, 1.4 * point - 0.4 * points.mean()]).view(float).reshape(2, 2)
        cv2.polylines(legs, [ends.astype("int32")], False, 255, width, cv2.LINE_AA)
    noise = (rng.normal(20, 30 / n**0.3, (2 * n, 3 * n, 3)) for n in (2, 8, 40, 200))
    texture = sum(cv2.resize(n, (4000, 2666), None, 0, 0, cv2.INTER_CUBIC) for n in noise)
    masks = (cv2.GaussianBlur(m, (0, 0), 2)[..., None] for m in (shape, np.maximum(shape, legs)))
    plain, legged = ((texture + mask * (0.5, 0.2, 0.4)).clip(0, 255) for mask in masks)
    return plain.astype("uint8"), legged.astype("uint8"), np.minimum(legs, 255 - shape), points
