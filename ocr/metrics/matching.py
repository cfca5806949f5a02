"""One-to-one matching of detections with labelled text at an IoU threshold, after the ICDAR 2015 protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import shapely

from ocr.geometry.polygons import to_valid_shapely
from ocr.types import Detections, Truth

DIGITS = 5  # of shares of areas, whose last bits must not decide whether a threshold is reached
IGNORE_OVERLAP = 0.5  # a detection with more than this share of its area on ignored text does not count


@dataclass(frozen=True)
class Match:
    """One-to-one matches of one image.

    Attributes:
        truth: int64 (G,), index of the matched detection or -1; ignored text is always -1.
        detection: int64 (D,), index of the matched text or -1.
        dont_care: bool (D,), detections that lie on ignored text and do not count.
        iou: float64 (G,), IoU of the match, 0 where there is none.
    """

    truth: np.ndarray
    detection: np.ndarray
    dont_care: np.ndarray
    iou: np.ndarray


@dataclass(frozen=True)
class Pairs:
    """How the detections and the labelled text of one image overlap; every protocol starts from it.

    Attributes:
        detections, truths: shapely polygons (D,), (G,).
        area_d, area_g: float64 (D,), (G,).
        d, g: int64 (P,), pairs whose bounding boxes meet.
        shared: float64 (P,), area of their intersection.
    """

    detections: np.ndarray
    truths: np.ndarray
    area_d: np.ndarray
    area_g: np.ndarray
    d: np.ndarray
    g: np.ndarray
    shared: np.ndarray

    @property
    def iou(self) -> np.ndarray:
        """float64 (P,)."""
        return self.shared / np.maximum(self.area_d[self.d] + self.area_g[self.g] - self.shared, 1e-12)

    def only(self, kept: np.ndarray) -> Pairs:
        """Keep the pairs of some detections, bool (D,)."""
        new_index = np.cumsum(kept) - 1
        some = kept[self.d]
        return replace(
            self, detections=self.detections[kept], area_d=self.area_d[kept], d=new_index[self.d[some]],
            g=self.g[some], shared=self.shared[some],
        )  # fmt: skip

    def area_recall(self) -> np.ndarray:
        """Share of each text that each detection covers, float64 (G, D)."""
        return np.round(self.dense() / np.maximum(self.area_g[:, None], 1e-12), DIGITS)

    def area_precision(self, shared: np.ndarray | None = None) -> np.ndarray:
        """Share of each detection that lies on each text, float64 (G, D).

        Args:
            shared: intersection areas (G, D) to take instead of :meth:`dense`.
        """
        shared = self.dense() if shared is None else shared
        return np.round(shared / np.maximum(self.area_d[None], 1e-12), DIGITS)

    def dense(self) -> np.ndarray:
        """Intersection areas as float64 (G, D)."""
        table = np.zeros((len(self.area_g), len(self.area_d)))
        table[self.g, self.d] = self.shared
        return table


def pair(detections: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> Pairs:
    """Polygons float (N, 2) of one image, in the same pixels, to their overlaps."""
    shapes_d, shapes_g = to_valid_shapely(detections), to_valid_shapely(truth)
    a, b = shapely.bounds(shapes_d).reshape(-1, 1, 4), shapely.bounds(shapes_g).reshape(1, -1, 4)
    d, g = np.nonzero((a[..., :2] < b[..., 2:]).all(axis=2) & (b[..., :2] < a[..., 2:]).all(axis=2))
    shared = shapely.area(shapely.intersection(shapes_d[d], shapes_g[g]))
    return Pairs(shapes_d, shapes_g, shapely.area(shapes_d), shapely.area(shapes_g), d, g, shared)


def match_pairs(pairs: Pairs, ignore: np.ndarray, threshold: float = 0.5) -> Match:
    """Match the polygons of one image.

    A detection of which more than half lies on one ignored text is left out. The others are matched one to one where
    the IoU is above the threshold; where several compete, the first text in order takes the first detection in
    order, as in the ICDAR 2015 evaluation.

    Args:
        pairs: see :func:`pair`.
        ignore: bool (G,).
    """
    ignore = np.asarray(ignore, bool)
    covered = pairs.shared > IGNORE_OVERLAP * pairs.area_d[pairs.d]
    dont_care = np.zeros(len(pairs.area_d), bool)
    dont_care[pairs.d[covered & ignore[pairs.g]]] = True
    iou = pairs.iou
    good = (iou > threshold) & ~ignore[pairs.g] & ~dont_care[pairs.d]
    d, g, iou = pairs.d[good], pairs.g[good], iou[good]
    order = np.lexsort((d, g))
    texts, detections = len(pairs.area_g), len(pairs.area_d)
    result = Match(np.full(texts, -1), np.full(detections, -1), dont_care, np.zeros(texts))
    for k in order.tolist():
        if result.truth[g[k]] < 0 and result.detection[d[k]] < 0:
            result.truth[g[k]], result.detection[d[k]], result.iou[g[k]] = d[k], g[k], iou[k]
    return result


@dataclass(frozen=True)
class ComparedImage:
    """One image's detections beside its labels: what every evaluation protocol counts from.

    Attributes:
        detections, truth: in the pixels of the original image.
        pairs: their overlaps.
        match: their one-to-one matches at IoU 0.5.
    """

    detections: Detections
    truth: Truth
    pairs: Pairs
    match: Match


def compare(detections: Detections, truth: Truth) -> ComparedImage:
    """Overlaps and matches of one image."""
    pairs = pair(detections.polygons, truth.polygons)
    return ComparedImage(detections, truth, pairs, match_pairs(pairs, truth.ignore))


def scores(precision_sum: float, detected: float, recall_sum: float, texts: float) -> dict[str, float]:
    """``precision``, ``recall`` and their harmonic mean ``hmean``; 0 where a ratio has no denominator.

    An image set with no text to find in which nothing was found scores 1 throughout.

    Args:
        precision_sum, detected: what the detections earned, of how many.
        recall_sum, texts: what the labelled texts earned, of how many.
    """
    if detected == 0 and texts == 0:
        return {"precision": 1.0, "recall": 1.0, "hmean": 1.0}
    precision = precision_sum / detected if detected else 0.0
    recall = recall_sum / texts if texts else 0.0
    total = precision + recall
    return {"precision": precision, "recall": recall, "hmean": 2 * precision * recall / total if total else 0.0}


def sample_scores(matched: int, detected: int, texts: int) -> dict[str, float]:
    """:func:`scores` of one image or batch, as the ICDAR 2015 script lists them per sample.

    Recall is 1 where there is no text to find, whatever was detected; the pooled recall of such a set is 0.
    """
    result = scores(matched, detected, matched, texts)
    return result if texts else result | {"recall": 1.0}
