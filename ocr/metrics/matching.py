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


def match(
    detections: Sequence[np.ndarray], truth: Sequence[np.ndarray], ignore: np.ndarray, threshold: float = 0.5
) -> Match:
    """Match the polygons of one image.

    A detection of which more than half lies on one ignored text is left out. The others are matched one to one where
    the IoU is above the threshold; where several compete, the first text in order takes the first detection in
    order, as in the ICDAR 2015 evaluation.

    Args:
        detections, truth: polygons float (N, 2) in the same pixels.
        ignore: bool (G,).
    """
    ignore = np.asarray(ignore, bool)
    found, wanted = to_shapes(detections), to_shapes(truth)
    d, g, shared = overlaps(found, wanted)
    area_d, area_g = shapely.area(found), shapely.area(wanted)

    dont_care = np.zeros(len(found), bool)
    covered = shared > IGNORE_OVERLAP * area_d[d]
    dont_care[d[covered & ignore[g]]] = True

    iou = shared / np.maximum(area_d[d] + area_g[g] - shared, 1e-12)
    good = (iou > threshold) & ~ignore[g] & ~dont_care[d]
    d, g, iou = d[good], g[good], iou[good]
    order = np.lexsort((d, g))
    result = Match(np.full(len(wanted), -1), np.full(len(found), -1), dont_care, np.zeros(len(wanted)))
    for k in order.tolist():
        if result.truth[g[k]] < 0 and result.detection[d[k]] < 0:
            result.truth[g[k]], result.detection[d[k]], result.iou[g[k]] = d[k], g[k], iou[k]
    return result
