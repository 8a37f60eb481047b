"""The field's measures of saliency maps, in two protocols: streaming accumulators of scores.

`paper` is the toolbox behind the paper's tables, `pysod` the PySODMetrics library. They agree about
what is object, but their numbers differ by definition; never put both in one table. Use:

    score = PaperScore()
    for pred, gt in pairs:
        score.add(pred, gt)  # returns the image's own values
    score.result()           # {'MAE': 0.03, 'Mean-F': 0.93, ...}

Degenerate input in `paper` (`pysod` follows its library, whose S is NaN if the object's centroid is
in the last row or column, and whose E of a 1x1 image is huge):

- A constant map is not stretched: it keeps its value on its type's scale (uint8 128 is 0.502).
- A constant mask is all object if its value is at least half its scale, or 1 in a 0/1 coding.
- All-black mask: precision, recall and every F are 0; E is the share of pixels below the
  adaptive threshold; S is 1 - mean(map). `score.empty` counts such masks.
- All-white mask: E is the share of pixels at or above the threshold, S is mean(map).
- An all-black map has adaptive threshold 0, so that every pixel is at or above it.
- E divides by N - 1 pixels as the toolbox does, a 1x1 image by 1. A perfect E is N / (N - 1).
- S cuts the image at the object's centroid: in front of its row and column, as the release's
  toolbox; PySODMetrics behind them, as the measure's authors. S of an object of one pixel is
  therefore another in `pysod` (a map of 2x2 pixels that begin with it: .816 against .563).
"""

import itertools
from typing import Any, Dict, Optional, Sequence, Tuple, Type, TypeVar

import cv2
import numpy as np

THRESHOLDS = np.linspace(0, 1, 256)
BETA2 = 0.3  # of every F but the weighted one
BINARY = ("IoU", "Dice", "BER")  # of the map above a half; by PySODMetrics, in both protocols
EPS = np.finfo(float).eps

Value = TypeVar("Value", float, np.ndarray)


def _white(image: np.ndarray) -> float:
    """Return the white of an image's type: 255 of uint8, 1 of bool and floats."""
    return np.iinfo(image.dtype).max if image.dtype.kind in "iu" else 1


def scale(image: np.ndarray) -> np.ndarray:
    """Stretch the grey image [H, W] to [0, 1], float64; a constant one keeps its value.

    OpenCV does it, as in the toolbox: it multiplies by 1 / (max - min), so that a value may round
    to just below the threshold that division would let it reach.
    """
    low, high = float(image.min()), float(image.max())
    if high - low > EPS:
        source = image if image.dtype == np.uint8 else image / (_white(image) / 255)
        return cv2.normalize(source, np.empty(image.shape), 0, 1, cv2.NORM_MINMAX, cv2.CV_64F)
    return np.full(image.shape, np.clip(high / _white(image), 0, 1))


def binarize(gt: np.ndarray) -> np.ndarray:
    """Find the object, bool [H, W], in a grey mask of any coding: 0/1, 0/255, soft edges."""
    if gt.dtype.kind in "iu" and gt.max() == 1:
        return gt.astype(bool)
    return scale(gt) >= 0.5


def f_measure(precision: Value, recall: Value, beta2: float = BETA2) -> Value:
    """Compute the weighted harmonic mean; 0 if both are 0."""
    return (1 + beta2) * precision * recall / (beta2 * precision + recall + EPS)


def precision_recall(pred: np.ndarray, gt: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Compute precision and recall [256] of `pred >= t` for every t in THRESHOLDS.

    `pred` is float64 [H, W] in [0, 1], `gt` bool [H, W]. Pixels are counted by how many thresholds
    they reach: 0 (rounding in `scale` may leave one below 0) to 256. Then counts add up from above.
    """
    reached = (pred * 255 + 1e-9).astype(np.intp)  # the index of the last one, or one more
    reached += (THRESHOLDS.take(reached) <= pred).view(np.uint8)
    reached += gt.astype(np.intp) * 257  # the object's pixels are counted apart
    counts = np.bincount(reached.ravel(), minlength=514).reshape(2, 257)
    outside, inside = counts[:, :0:-1].cumsum(axis=1)[:, ::-1]
    return inside / (inside + outside + EPS), inside / (np.count_nonzero(gt) + EPS)


def e_measure(binary: np.ndarray, gt: np.ndarray) -> float:
    """Compute the enhanced alignment of two bool [H, W] (Fan et al. 2018), over N - 1 pixels.

    A pixel's alignment depends on its two bits alone: four values and their counts suffice.
    """
    size, in_pred, in_gt = gt.size, np.count_nonzero(binary), np.count_nonzero(gt)
    in_both = np.count_nonzero(binary & gt)
    if in_gt == 0:
        total = float(size - in_pred)
    elif in_gt == size:
        total = float(in_pred)
    else:
        total, in_neither = 0.0, size - in_pred - in_gt + in_both
        counts = ((in_both, 1, 1), (in_pred - in_both, 1, 0), (in_gt - in_both, 0, 1))
        for count, pred_bit, gt_bit in (*counts, (in_neither, 0, 0)):
            x, y = pred_bit - in_pred / size, gt_bit - in_gt / size
            total += count * (2 * x * y / (x * x + y * y + EPS) + 1) ** 2 / 4
    return total / max(size - 1, 1)


# Offsets (row, column) by squared distance. The leftmost comes first, then the topmost: so does
# SciPy's distance transform choose among equally near pixels.
_STEPS = list(itertools.product(range(-4, 5), repeat=2))
_RINGS = {
    square: np.array([(y, x) for x, y in _STEPS if x * x + y * y == square])
    for square in (1, 2, 4, 5, 8, 9, 10, 13, 16, 17, 18)
}
_GAUSSIAN = cv2.getGaussianKernel(7, 5, cv2.CV_64F)


def _carry_to_band(error: np.ndarray, gt: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Give the pixels in a band of 3 around the object the error of the nearest object pixel."""
    pad = 4
    padded_gt = cv2.copyMakeBorder(gt.view(np.uint8), pad, pad, pad, pad, cv2.BORDER_CONSTANT)
    source = cv2.copyMakeBorder(error, pad, pad, pad, pad, cv2.BORDER_CONSTANT)
    carried = source.copy()
    stride = padded_gt.shape[1]
    band = np.flatnonzero((distance > 0) & (distance < 4.25))
    rows, columns = np.divmod(band, gt.shape[1])
    places = (rows + pad) * stride + columns + pad
    squares = np.rint(distance.ravel()[band] ** 2).astype(int)
    for square, offsets in _RINGS.items():
        ring = places[squares == square]
        candidates = ring[:, None] + offsets @ (stride, 1)
        nearest = padded_gt.ravel()[candidates].argmax(axis=1)
        carried.ravel()[ring] = source.ravel()[candidates[np.arange(len(ring)), nearest]]
    return carried[pad:-pad, pad:-pad]


def weighted_f(error: np.ndarray, gt: np.ndarray) -> float:
    """Compute the weighted F-measure, beta^2 = 1 (Margolin et al. 2014); 0 for an all-black mask.

    `error` is |pred - gt|, float64 [H, W] in [0, 1], `gt` bool [H, W].
    An error on the object counts no more than its 7x7 Gaussian (sigma 5) mean, in which a pixel
    off the object has the error of the nearest object pixel: the mean reaches 3 pixels out, so
    only a band around the object needs that look-up. An error off the object weighs 1 to 2, more
    with its distance.
    """
    in_gt = np.count_nonzero(gt)
    if not in_gt:
        return 0.0
    outside = (~gt).view(np.uint8)
    distance = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    x, y, width, height = cv2.boundingRect(gt.view(np.uint8))
    window = np.s_[max(0, y - 3) : y + height + 3, max(0, x - 3) : x + width + 3]
    near = gt[window]
    carried = _carry_to_band(error[window], near, distance[window])
    border = cv2.BORDER_CONSTANT
    smooth = cv2.sepFilter2D(carried, cv2.CV_64F, _GAUSSIAN, _GAUSSIAN, borderType=border)
    on_object = error[window][near]
    missed = np.minimum(on_object, smooth[near]).sum()
    weight = 2 - np.exp(np.log(0.5) / 5 * distance)  # 1 on the object
    false = error.ravel() @ weight.ravel() - on_object.sum()
    hit = in_gt - missed
    return float(f_measure(hit / (hit + false + EPS), hit / in_gt, beta2=1))


def _region_similarity(pred: np.ndarray, gt: np.ndarray) -> float:
    """Compare the structure of one region of the map and the mask, float64 [h, w] each."""
    x, y = pred.mean(), gt.mean()
    dx = pred - x
    degrees = pred.size - 1 + EPS
    above = 4 * x * y * np.vdot(dx, gt) / degrees
    below = (x * x + y * y) * (np.vdot(dx, dx) + pred.size * y * (1 - y)) / degrees
    if above == 0:
        return float(below == 0)
    return above / (below + EPS)


def s_measure(pred: np.ndarray, gt: np.ndarray) -> float:
    """Compute the structure measure (Fan et al. 2017), alpha = 0.5, not below 0.

    Half is the similarity of map and mask on and off the object, half that of the four regions
    that meet at the object's centroid.
    """
    share = float(gt.mean())
    if share in (0, 1):
        return float(pred.mean() if share else 1 - pred.mean())
    by_object = 0.0
    for pixels, offset, sign in ((gt, 0, 1), (~gt, 1, -1)):  # off the object: of 1 - pred
        mean, deviation = map(np.ndarray.item, cv2.meanStdDev(pred, mask=pixels.view(np.uint8)))
        mean = offset + sign * mean
        by_object += pixels.mean() * 2 * mean / (mean**2 + 1 + deviation + EPS)
    height, width = gt.shape
    rows, columns = gt.sum(axis=1), gt.sum(axis=0)
    middle_y = int(np.rint(rows @ np.arange(height) / rows.sum()))
    middle_x = int(np.rint(columns @ np.arange(width) / columns.sum()))
    gt_values = gt.astype(float)
    by_region = 0.0
    for ys in (slice(0, middle_y), slice(middle_y, height)):
        for xs in (slice(0, middle_x), slice(middle_x, width)):
            region = pred[ys, xs]
            if region.size:
                by_region += region.size / gt.size * _region_similarity(region, gt_values[ys, xs])
    return float(max(0, 0.5 * by_object + 0.5 * by_region))


class Score:
    """Scores of a set in constant memory: `add` one map after the other, then `result`.

    A protocol is a subclass that names its measures, and says in `_measure` what they are for one
    image and in `_headline` which numbers follow from their means. `sums` is all that has been
    counted, float64 [n]: those of the parts of a set add up to the set's, as `PaperScore(sums)`.
    `binary` are names of BINARY that are measured too.
    """

    table: Tuple[str, str, str]  # the columns M, F and E of the paper's tables
    number_names: Tuple[str, ...]  # measures that are one number an image
    curve_names: Tuple[str, ...]  # measures that are a curve [256] over THRESHOLDS
    extremes: Tuple[str, ...] = ("Max-F", "Mean-F")  # measures that follow from the curves

    def __init__(self, sums: Optional[np.ndarray] = None, binary: Sequence[str] = ()) -> None:
        self.binary = tuple(binary)
        self.number_names = (*self.number_names, *self.binary)
        size = 2 + len(self.number_names) + 256 * len(self.curve_names)
        self.sums = np.zeros(size) if sums is None else sums

    @property
    def count(self) -> int:
        """How many images have been counted."""
        return round(self.sums[0])

    @property
    def empty(self) -> int:
        """How many of their masks are all black."""
        return round(self.sums[1])

    def add(self, pred: np.ndarray, gt: np.ndarray) -> Dict[str, float]:
        """Count one grey map [h, w] with its grey mask [H, W]; return the image's own values.

        A map of another size is resized to the mask's. In the `paper` protocol the set's Max-F
        and Mean-F are not the means of the images' own. Raises ValueError for arrays that are not
        grey images.
        """
        for image in (pred, gt):
            if image.ndim != 2 or not image.size:
                raise ValueError(f"a grey image [H, W] is needed, not one of shape {image.shape}")
            if not np.isfinite(image).all():
                raise ValueError("the image has values that are not finite")
        gt = binarize(gt)
        own = self._measure(pred, gt)
        names = (*self.number_names, *self.curve_names)
        self.sums += np.hstack([1, 0 if gt.any() else 1, *(own[name] for name in names)])
        return self._headline(own)

    @classmethod
    def all_names(cls) -> Tuple[str, ...]:
        """Name every number that `result` can hold."""
        return (*cls.number_names, *cls.extremes, *BINARY)

    def curves(self) -> Dict[str, np.ndarray]:
        """Average `precision`, `recall` and `f` over the set, [256] each, over THRESHOLDS."""
        m = self._means()
        return {"precision": m["precision"], "recall": m["recall"], "f": self._f_curve(m)}

    def result(self) -> Dict[str, float]:
        """Average the set's values: MAE, E, S and F in their kinds, by name."""
        return self._headline(self._means())

    def _means(self) -> Dict[str, Any]:
        if not self.count:
            raise ValueError("no map has been added")
        numbers, curves = np.split(self.sums[2:] / self.count, [len(self.number_names)])
        names = (*self.number_names, *self.curve_names)
        return dict(zip(names, (*numbers, *curves.reshape(-1, 256))))

    def _headline(self, means: Dict[str, Any]) -> Dict[str, float]:
        f = self._f_curve(means)
        numbers = {name: float(means[name]) for name in self.number_names}
        return {**numbers, "Max-F": float(f.max()), "Mean-F": float(f.mean())}

    def _f_curve(self, means: Dict[str, Any]) -> np.ndarray:
        return f_measure(means["precision"], means["recall"])

    def _measure(self, pred: np.ndarray, gt: np.ndarray) -> Dict[str, Any]:
        raise NotImplementedError


def binary_measures(names: Sequence[str], pred: np.ndarray, gt: np.ndarray) -> Dict[str, float]:
    """Compute measures of BINARY of `pred > 0.5`, by PySODMetrics; IoU and Dice of an all-black
    mask are 0.

    `pred` is float64 [H, W] in [0, 1], `gt` bool [H, W].
    """
    if not names:
        return {}
    import py_sod_metrics as library

    handlers = {"IoU": library.IOUHandler, "Dice": library.DICEHandler, "BER": library.BERHandler}
    measure = library.FmeasureV2(
        {name: handlers[name](False, False, with_binary=True) for name in names}
    )
    measure.step(np.clip(pred, 0, 1), gt, normalize=False)
    return {name: float(found["binary"]) for name, found in measure.get_results().items()}


class PaperScore(Score):
    """The paper's protocol: MAE, E-measure, S-measure, Adp-F, Wgt-F, Max-F and Mean-F.

    The map is stretched to [0, 1], and resized (bilinear) if it is of another size. Precision and
    recall are averaged over the set, then `Max-F` and `Mean-F` (the paper's F) are the largest and
    the mean F over 256 thresholds. `E-measure` and `Adp-F` use the map's own threshold
    min(2 * mean, 1).
    """

    table = ("MAE", "Mean-F", "E-measure")
    number_names = ("MAE", "E-measure", "S-measure", "Adp-F", "Wgt-F")
    curve_names = ("precision", "recall")

    def _measure(self, pred: np.ndarray, gt: np.ndarray) -> Dict[str, Any]:
        pred = scale(pred)
        if pred.shape != gt.shape:
            pred = cv2.resize(pred, gt.shape[::-1])
        error = np.abs(pred - gt)
        adaptive = pred >= min(2 * pred.mean(), 1)
        hits = np.count_nonzero(adaptive & gt)
        adaptive_precision = hits / (np.count_nonzero(adaptive) + EPS)
        adaptive_recall = hits / (np.count_nonzero(gt) + EPS)
        precision, recall = precision_recall(pred, gt)
        return {
            "MAE": error.mean(),
            "E-measure": e_measure(adaptive, gt),
            "S-measure": s_measure(pred, gt),
            "Adp-F": f_measure(adaptive_precision, adaptive_recall),
            "Wgt-F": weighted_f(error, gt),
            "precision": precision,
            "recall": recall,
            **binary_measures(self.binary, pred, gt),
        }


class PysodScore(Score):
    """The field's protocol, computed by PySODMetrics (`pip install pysodmetrics`) itself.

    Every F is a mean over the images' own: `Max-F` and `Mean-F` are of the mean F curve, `Max-E`
    and `Mean-E` of the mean E curve, `Adp-F` and `Adp-E` use the map's threshold min(2 * mean, 1).
    A map of another size is resized (bilinear) first, as it is stored.
    """

    table = ("MAE", "Mean-F", "Adp-E")
    number_names = ("MAE", "Adp-E", "S-measure", "Adp-F", "Wgt-F")
    curve_names = ("e", "precision", "recall", "f")
    extremes = ("Max-F", "Mean-F", "Max-E", "Mean-E")

    def _measure(self, pred: np.ndarray, gt: np.ndarray) -> Dict[str, Any]:
        import py_sod_metrics as library  # half a second that only this protocol needs

        if pred.dtype != np.uint8:  # the library reads 0..255
            pred = pred / (_white(pred) / 255)
        if pred.shape != gt.shape:
            pred = cv2.resize(pred, gt.shape[::-1])
        mae, e, s = library.MAE(), library.Emeasure(), library.Smeasure()
        weighted = library.WeightedFmeasure()
        f = library.FmeasureV2()
        f.add_handler("f", library.FmeasureHandler(True, True))
        f.add_handler("precision", library.PrecisionHandler(True, False))
        f.add_handler("recall", library.RecallHandler(True, False))
        for measure in (mae, e, s, weighted, f):  # new for every image: they keep all they saw
            measure.step(pred, np.where(gt, 255, 0).astype(np.uint8))
        e_result, f_result = e.get_results()["em"], f.get_results()
        return {
            "MAE": mae.get_results()["mae"],
            "Adp-E": e_result["adp"],
            "S-measure": s.get_results()["sm"],
            "Adp-F": f_result["f"]["adaptive"],
            "Wgt-F": weighted.get_results()["wfm"],
            "e": e_result["curve"][::-1],  # the library begins at the highest threshold
            **{name: result["dynamic"][::-1] for name, result in f_result.items()},
            **binary_measures(self.binary, scale(pred), gt),
        }

    def _f_curve(self, means: Dict[str, Any]) -> np.ndarray:
        return means["f"]

    def _headline(self, means: Dict[str, Any]) -> Dict[str, float]:
        e = means["e"]
        return {**super()._headline(means), "Max-E": float(e.max()), "Mean-E": float(e.mean())}


PROTOCOLS: Dict[str, Type[Score]] = {"paper": PaperScore, "pysod": PysodScore}
