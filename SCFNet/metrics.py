"""The field's measures of saliency maps, in two protocols: streaming accumulators of scores.

`paper` is the toolbox behind the paper's tables, `pysod` the PySODMetrics library. Their numbers
differ by definition; never put both in one table. Use:

    score = PaperScore()
    for saliency_map, mask in pairs:
        score.add(saliency_map, mask)  # gives the image's own values
    score.result()                     # {'MAE': 0.03, 'Mean-F': 0.93, ...}

Degenerate input, `paper` protocol (`pysod` follows its library, whose S-measure is NaN if the
object's centroid is in the last row or column, and whose E of a 1x1 image is huge):

- A constant map is not stretched: it keeps its value on its type's scale (uint8 128 is 0.502).
- A constant mask is all object where its value is at least half its scale, or 1 in a 0/1 coding,
  else it is all black. Masks coded 0/1, 0/255 or with soft edges read alike.
- All-black mask: precision, recall and every F are 0; E is the share of pixels below the
  adaptive threshold; S is 1 - mean(map). `score.empty` counts such masks.
- All-white mask: E is the share of pixels at or above the threshold, S is mean(map).
- An all-black map has adaptive threshold 0, so that every pixel is at or above it.
- E divides by N - 1 pixels as the toolbox does, a 1x1 image by 1. A perfect E is N / (N - 1).
"""

import itertools
from typing import Dict, List, Tuple, Type

import cv2
import numpy as np

THRESHOLDS = np.linspace(0, 1, 256)
BETA2 = 0.3  # of every F but the weighted one
EPS = np.finfo(float).eps

# The C library hands freed arrays back to the system unless it has freed a larger block before, and
# each new array then costs page faults: a third of the time here. This block is never touched.
np.empty(31 << 20, np.uint8)


def _top(image: np.ndarray) -> int:
    return np.iinfo(image.dtype).max if image.dtype.kind in "iu" else 1


def _as_coded(mask: np.ndarray) -> np.ndarray:
    """The mask; as bool where it is of integers that are coded 0/1."""
    return mask.astype(bool) if mask.dtype.kind in "iu" and mask.max() == 1 else mask


def scale(image: np.ndarray) -> np.ndarray:
    """The grey image [H, W] stretched to [0, 1], float64; a constant one keeps its value.

    The scale of integers is their type's largest value, of bool and floats 1.
    """
    low, high = float(image.min()), float(image.max())
    if high > low:
        return np.subtract(image, low, dtype=float) / (high - low)
    return np.full(image.shape, np.clip(high / _top(image), 0, 1))


def binarize(mask: np.ndarray) -> np.ndarray:
    """The object's pixels, bool [H, W], of a grey mask in any coding: 0/1, 0/255, soft edges."""
    return scale(_as_coded(mask)) >= 0.5


def f_measure(precision: np.ndarray, recall: np.ndarray, beta2: float = BETA2) -> np.ndarray:
    """The weighted harmonic mean; 0 where both are 0."""
    return (1 + beta2) * precision * recall / (beta2 * precision + recall + EPS)


def precision_recall(values: np.ndarray, mask: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Precision and recall [256] of `values >= t` for every t in THRESHOLDS.

    `values` is float64 [H, W] in [0, 1], `mask` bool [H, W]. Each pixel is put into the bin of the
    highest threshold that it reaches, and the bins are summed from above.
    """
    bins = (values * 255 + 1e-9).astype(np.intp)  # at most one too high, by rounding
    bins -= THRESHOLDS.take(bins) > values
    histogram = np.bincount((bins + mask * np.intp(256)).ravel(), minlength=512).reshape(2, 256)
    below_object, object_ = histogram[:, ::-1].cumsum(axis=1)[:, ::-1]
    return object_ / (object_ + below_object + EPS), object_ / (np.count_nonzero(mask) + EPS)


def e_measure(binary: np.ndarray, mask: np.ndarray) -> float:
    """Enhanced alignment of two bool [H, W] (Fan et al. 2018), summed over N - 1 pixels.

    A pixel's alignment depends on its two bits alone: four values and their counts suffice.
    """
    size, positive, objects = mask.size, np.count_nonzero(binary), np.count_nonzero(mask)
    both = np.count_nonzero(binary & mask)
    if objects == 0:
        total = float(size - positive)
    elif objects == size:
        total = float(positive)
    else:
        total = 0.0
        counts = ((both, 1, 1), (positive - both, 1, 0), (objects - both, 0, 1))
        for count, in_map, in_mask in (*counts, (size - positive - objects + both, 0, 0)):
            x, y = in_map - positive / size, in_mask - objects / size
            total += count * (2 * x * y / (x * x + y * y + EPS) + 1) ** 2 / 4
    return total / max(size - 1, 1)


def _rings() -> Dict[int, np.ndarray]:
    """Offsets (row, column), [n, 2], by their squared distance, as far as a 7x7 window reaches.

    Among equally near ones the leftmost comes first, then the topmost: the choice that SciPy's
    distance transform makes.
    """
    steps = range(-4, 5)
    rings: Dict[int, List[Tuple[int, int]]] = {}
    for x, y in itertools.product(steps, steps):
        if 0 < y * y + x * x <= 18:
            rings.setdefault(y * y + x * x, []).append((y, x))
    return {square: np.array(offsets) for square, offsets in rings.items()}


_RINGS = _rings()
_GAUSSIAN = cv2.getGaussianKernel(7, 5, cv2.CV_64F)


def _carry_to_band(error: np.ndarray, mask: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """`error` with, in the band of 3 pixels around the object, the nearest object pixel's."""
    pad = 4
    objects = cv2.copyMakeBorder(mask.view(np.uint8), pad, pad, pad, pad, cv2.BORDER_CONSTANT)
    source = cv2.copyMakeBorder(error, pad, pad, pad, pad, cv2.BORDER_CONSTANT)
    carried = source.copy()
    stride = objects.shape[1]
    band = np.flatnonzero((distance > 0) & (distance < 4.25))
    rows, columns = np.divmod(band, mask.shape[1])
    places = (rows + pad) * stride + columns + pad
    squares = np.rint(distance.ravel()[band] ** 2).astype(int)
    for square, offsets in _RINGS.items():
        ring = places[squares == square]
        candidates = ring[:, None] + offsets @ (stride, 1)
        nearest = objects.ravel()[candidates].argmax(axis=1)
        carried.ravel()[ring] = source.ravel()[candidates[np.arange(len(ring)), nearest]]
    return carried[pad:-pad, pad:-pad]


def _reach(occupied: np.ndarray) -> slice:
    """The indices from 3 before the first to 3 after the last that is set in bool [n]."""
    indices = np.flatnonzero(occupied)
    return slice(max(0, indices[0] - 3), indices[-1] + 4)


def weighted_f(error: np.ndarray, mask: np.ndarray) -> float:
    """The weighted F-measure, beta^2 = 1 (Margolin et al. 2014); 0 for an all-black mask.

    `error` is |map - mask|, float64 [H, W] in [0, 1], `mask` bool [H, W].
    An error on the object counts no more than its 7x7 Gaussian (sigma 5) mean, in which a pixel
    off the object has the error of the nearest object pixel: the mean reaches 3 pixels out, so
    only a band around the object needs that look-up. An error off the object weighs 1 to 2, more
    with its distance.
    """
    objects = np.count_nonzero(mask)
    if not objects:
        return 0.0
    outside = (~mask).view(np.uint8)
    distance = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    rows, columns = (_reach(mask.any(axis=axis)) for axis in (1, 0))
    near = mask[rows, columns]
    carried = _carry_to_band(error[rows, columns], near, distance[rows, columns])
    smooth = cv2.sepFilter2D(
        carried, cv2.CV_64F, _GAUSSIAN, _GAUSSIAN, borderType=cv2.BORDER_CONSTANT
    )
    on_object = error[rows, columns][near]
    missed = np.minimum(on_object, smooth[near]).sum()
    weight = 2 - np.exp(np.log(0.5) / 5 * distance)  # 1 on the object
    false = error.ravel() @ weight.ravel() - on_object.sum()
    hit = objects - missed
    return float(f_measure(hit / (hit + false + EPS), hit / objects, beta2=1))


def _region_similarity(values: np.ndarray, mask: np.ndarray) -> float:
    """Structural similarity of one region of the map and the mask, float64 [h, w] each."""
    x, y = values.mean(), mask.mean()
    dx = values - x
    degrees = values.size - 1 + EPS
    above = 4 * x * y * np.vdot(dx, mask) / degrees
    below = (x * x + y * y) * (np.vdot(dx, dx) + values.size * y * (1 - y)) / degrees
    if above == 0:
        return float(below == 0)
    return above / (below + EPS)


def s_measure(values: np.ndarray, mask: np.ndarray) -> float:
    """The structure measure (Fan et al. 2017), alpha = 0.5, not below 0.

    Half is the similarity of map and mask on and off the object, half that of the four regions
    that meet at the object's centroid.
    """
    share = float(mask.mean())
    if share in (0, 1):
        return float(values.mean() if share else 1 - values.mean())
    by_object = 0.0
    for pixels, offset, sign in ((mask, 0, 1), (~mask, 1, -1)):  # off the object: of 1 - values
        mean, deviation = map(np.ndarray.item, cv2.meanStdDev(values, mask=pixels.view(np.uint8)))
        mean = offset + sign * mean
        by_object += pixels.mean() * 2 * mean / (mean**2 + 1 + deviation + EPS)
    height, width = mask.shape
    rows, columns = mask.sum(axis=1), mask.sum(axis=0)
    middle_y = int(np.rint(rows @ np.arange(height) / rows.sum()))
    middle_x = int(np.rint(columns @ np.arange(width) / columns.sum()))
    truth = mask.astype(float)
    by_region = 0.0
    for ys in (slice(0, middle_y), slice(middle_y, height)):
        for xs in (slice(0, middle_x), slice(middle_x, width)):
            region = values[ys, xs]
            if region.size:
                by_region += region.size / mask.size * _region_similarity(region, truth[ys, xs])
    return float(max(0, 0.5 * by_object + 0.5 * by_region))


class Score:
    """Scores of a set in constant memory: `add` one map after the other, then `result`.

    A protocol is a subclass that says in `_measure` what one image adds to the set's means, and in
    `_headline` which numbers follow from them.
    """

    table: Tuple[str, str, str]  # the columns M, F and E of the paper's tables

    def __init__(self) -> None:
        self.count = 0
        self.empty = 0  # all-black masks
        self._sums: Dict[str, np.ndarray] = {}  # of values [] and curves [256] by name

    def add(self, saliency_map: np.ndarray, mask: np.ndarray) -> Dict[str, float]:
        """Count one grey map [h, w] with its grey mask [H, W]; the image's own values.

        A map of another size is resized to the mask's. In the `paper` protocol the set's Max-F
        and Mean-F are not the means of the images' own. Raises ValueError for arrays that are not
        grey images.
        """
        for image in (saliency_map, mask):
            if image.ndim != 2 or not image.size:
                raise ValueError(f"a grey image [H, W] is needed, not one of shape {image.shape}")
            if not np.isfinite(image).all():
                raise ValueError("the image has values that are not finite")
        means = self._measure(saliency_map, mask)
        self.count += 1
        self.empty += bool(means["recall"][0] == 0)  # any object is found at threshold 0
        self._add_sums(means)
        return self._headline(means)

    def merge(self, other: "Score") -> None:
        """Take in what another accumulator of the same protocol has counted."""
        self.count += other.count
        self.empty += other.empty
        self._add_sums(other._sums)

    def means(self) -> Dict[str, np.ndarray]:
        """The set's means: the values, and `precision`, `recall`, ... [256] over THRESHOLDS."""
        if not self.count:
            raise ValueError("no map has been added")
        return {name: total / self.count for name, total in self._sums.items()}

    def curves(self) -> Dict[str, np.ndarray]:
        """`precision`, `recall` and `f` of the set, [256] each, over THRESHOLDS."""
        means = self.means()
        curves = {"precision": means["precision"], "recall": means["recall"]}
        return {**curves, "f": self._f_curve(means)}

    def result(self) -> Dict[str, float]:
        """The set's values by name: MAE, E, S and F in their kinds."""
        return self._headline(self.means())

    def _add_sums(self, sums: Dict[str, np.ndarray]) -> None:
        for name, value in sums.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def _headline(self, means: Dict[str, np.ndarray]) -> Dict[str, float]:
        f = self._f_curve(means)
        values = {name: float(mean) for name, mean in means.items() if np.ndim(mean) == 0}
        return {**values, "Max-F": float(f.max()), "Mean-F": float(f.mean())}

    def _measure(self, saliency_map: np.ndarray, mask: np.ndarray) -> Dict[str, np.ndarray]:
        raise NotImplementedError

    def _f_curve(self, means: Dict[str, np.ndarray]) -> np.ndarray:
        raise NotImplementedError


class PaperScore(Score):
    """The paper's protocol: MAE, E-measure, S-measure, Adp-F, Wgt-F, Max-F and Mean-F.

    Map and mask are each stretched to [0, 1]; the mask's object is where it is >= 0.5; a map of
    another size is then resized (bilinear). Precision and recall are averaged over the set, then
    `Max-F` and `Mean-F` (the paper's F) are the largest and the mean F over 256 thresholds.
    `E-measure` and `Adp-F` use the map's own threshold min(2 * mean, 1).
    """

    table = ("MAE", "Mean-F", "E-measure")

    def _measure(self, saliency_map: np.ndarray, mask: np.ndarray) -> Dict[str, np.ndarray]:
        objects = binarize(mask)
        values = scale(saliency_map)
        if values.shape != objects.shape:
            values = cv2.resize(values, objects.shape[::-1])
        error = np.abs(values - objects)
        adaptive = values >= min(2 * values.mean(), 1)
        hits = np.count_nonzero(adaptive & objects)
        adaptive_f = f_measure(
            hits / (np.count_nonzero(adaptive) + EPS), hits / (np.count_nonzero(objects) + EPS)
        )
        precision, recall = precision_recall(values, objects)
        return {
            "MAE": error.mean(),
            "E-measure": e_measure(adaptive, objects),
            "S-measure": s_measure(values, objects),
            "Adp-F": adaptive_f,
            "Wgt-F": weighted_f(error, objects),
            "precision": precision,
            "recall": recall,
        }

    def _f_curve(self, means: Dict[str, np.ndarray]) -> np.ndarray:
        return f_measure(means["precision"], means["recall"])


def _as_uint8(image: np.ndarray) -> np.ndarray:
    """The grey image [H, W] on the scale 0..255 that the PySODMetrics library reads."""
    if image.dtype == np.uint8:
        return image
    return np.rint(np.clip(image / _top(image), 0, 1) * 255).astype(np.uint8)


class PysodScore(Score):
    """The field's protocol, computed by PySODMetrics (`pip install pysodmetrics`) itself.

    Every F is a mean over the images' own: `Max-F` and `Mean-F` are of the mean F curve, `Max-E`
    and `Mean-E` of the mean E curve, `Adp-F` and `Adp-E` use the map's threshold min(2 * mean, 1).
    A map of another size is resized (bilinear) first, as uint8; 0/1 masks are read as 0/255.
    """

    table = ("MAE", "Mean-F", "Adp-E")

    def _measure(self, saliency_map: np.ndarray, mask: np.ndarray) -> Dict[str, np.ndarray]:
        import py_sod_metrics  # half a second that only this protocol needs

        objects, values = _as_uint8(_as_coded(mask)), _as_uint8(saliency_map)
        if values.shape != objects.shape:
            values = cv2.resize(values, objects.shape[::-1])
        mae, e, s = py_sod_metrics.MAE(), py_sod_metrics.Emeasure(), py_sod_metrics.Smeasure()
        weighted = py_sod_metrics.WeightedFmeasure()
        f = py_sod_metrics.FmeasureV2(
            {
                "f": py_sod_metrics.FmeasureHandler(True, True),
                "precision": py_sod_metrics.PrecisionHandler(True, False),
                "recall": py_sod_metrics.RecallHandler(True, False),
            }
        )
        for measure in (mae, e, s, weighted, f):  # new for every image: they keep all they saw
            measure.step(values, objects)
        e_result, f_result = e.get_results()["em"], f.get_results()
        descending = {name: f_result[name]["dynamic"] for name in ("precision", "recall", "f")}
        return {
            "MAE": mae.get_results()["mae"],
            "Adp-E": e_result["adp"],
            "S-measure": s.get_results()["sm"],
            "Adp-F": f_result["f"]["adaptive"],
            "Wgt-F": weighted.get_results()["wfm"],
            "e": e_result["curve"][::-1],
            **{name: values[::-1] for name, values in descending.items()},
        }

    def _f_curve(self, means: Dict[str, np.ndarray]) -> np.ndarray:
        return means["f"]

    def _headline(self, means: Dict[str, np.ndarray]) -> Dict[str, float]:
        e = means["e"]
        return {**super()._headline(means), "Max-E": float(e.max()), "Mean-E": float(e.mean())}


PROTOCOLS: Dict[str, Type[Score]] = {"paper": PaperScore, "pysod": PysodScore}
