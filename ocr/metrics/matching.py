"""One-to-one matching of detections with labelled text at an IoU threshold, after the ICDAR 2015 protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely

IGNORE_OVERLAP = 0.5  # a detection with more than this share of its area on ignored text does not count


@dataclass(frozen=True)
class Match:
    """What came of one image.

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


def to_shapes(polygons: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays (N, 2) to valid shapely polygons; a shape with no area becomes an empty one."""
    usable = [i for i, p in enumerate(polygons) if len(p) >= 3 and np.isfinite(p).all()]
    shapes = np.full(len(polygons), shapely.Polygon(), object)
    if usable:
        points = np.concatenate([polygons[i] for i in usable]).astype(np.float64)
        owner = np.repeat(np.arange(len(usable)), [len(polygons[i]) for i in usable])
        drawn = np.atleast_1d(shapely.polygons(shapely.linearrings(points, indices=owner)))
        wrong = ~shapely.is_valid(drawn)
        drawn[wrong] = shapely.buffer(drawn[wrong], 0)
        shapes[usable] = drawn
    return shapes


@dataclass(frozen=True)
class Pairs:
    """How the detections and the labelled text of one image overlap; every protocol starts from it.

    Attributes:
        detections, truths: shapely polygons (D,) and (G,).
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
        """Those of some of the detections, bool (D,)."""
        place = np.cumsum(kept) - 1
        some = kept[self.d]
        return Pairs(
            self.detections[kept], self.truths, self.area_d[kept], self.area_g, place[self.d[some]], self.g[some],
            self.shared[some],
        )  # fmt: skip

    def dense(self) -> np.ndarray:
        """Intersection areas as float64 (G, D)."""
        table = np.zeros((len(self.truths), len(self.detections)))
        table[self.g, self.d] = self.shared
        return table


def pair(detections: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> Pairs:
    """Polygons float (N, 2) of one image, in the same pixels, to their overlaps."""
    found, wanted = to_shapes(detections), to_shapes(truth)
    d, g, shared = overlaps(found, wanted)
    return Pairs(found, wanted, shapely.area(found), shapely.area(wanted), d, g, shared)


def overlaps(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of shapes whose bounding boxes meet: (index in a, index in b, area of the intersection)."""
    if not len(a) or not len(b):
        none = np.zeros(0, np.int64)
        return none, none, np.zeros(0)
    low_a, high_a = np.split(shapely.bounds(a), 2, axis=1)
    low_b, high_b = np.split(shapely.bounds(b), 2, axis=1)
    meet = (low_a[:, None] < high_b[None]).all(axis=2) & (low_b[None] < high_a[:, None]).all(axis=2)
    i, j = np.nonzero(meet)
    return i, j, shapely.area(shapely.intersection(a[i], b[j]))


def on_ignored_text(pairs: Pairs, ignore: np.ndarray) -> np.ndarray:
    """bool (D,): more than half of the detection lies on one ignored text."""
    found = np.zeros(len(pairs.detections), bool)
    covered = pairs.shared > IGNORE_OVERLAP * pairs.area_d[pairs.d]
    found[pairs.d[covered & ignore[pairs.g]]] = True
    return found


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
    dont_care = on_ignored_text(pairs, ignore)
    iou = pairs.iou
    good = (iou > threshold) & ~ignore[pairs.g] & ~dont_care[pairs.d]
    d, g, iou = pairs.d[good], pairs.g[good], iou[good]
    order = np.lexsort((d, g))
    wanted, found = len(pairs.truths), len(pairs.detections)
    result = Match(np.full(wanted, -1), np.full(found, -1), dont_care, np.zeros(wanted))
    for k in order.tolist():
        if result.truth[g[k]] < 0 and result.detection[d[k]] < 0:
            result.truth[g[k]], result.detection[d[k]], result.iou[g[k]] = d[k], g[k], iou[k]
    return result


def match(
    detections: Sequence[np.ndarray], truth: Sequence[np.ndarray], ignore: np.ndarray, threshold: float = 0.5
) -> Match:
    """:func:`match_pairs` of polygons."""
    return match_pairs(pair(detections, truth), ignore, threshold)
