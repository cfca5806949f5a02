"""DetEval: one-to-one, one-to-many and many-to-one matches by area (Wolf and Jolion 2006).

The variant is that of the Robust Reading Competition's script for focused text and for SROIE task 1: area recall at
least 0.8 and area precision at least 0.4, a text that is split into several detections counts 0.8, several texts
merged into one detection count in full. Areas are those of polygons, where the script takes upright rectangles whose
last pixel is counted (so that it adds 1 to each side); centres and diagonals are those of bounding boxes.
"""

from __future__ import annotations

import numpy as np

from ocr.metrics.matching import ComparedImage, Pairs, scores

AREA_RECALL, AREA_PRECISION = 0.8, 0.4
SPLIT = 0.8  # what one-to-many matches count


def deteval(pairs: Pairs, ignore: np.ndarray) -> tuple[float, float, int, int]:
    """Accumulated recall and precision of one image, and how many texts and detections count.

    Args:
        pairs: see :func:`ocr.metrics.matching.pair`.
        ignore: bool (G,).

    Returns:
        (recall sum, precision sum, texts, detections); the ratios of sums over images are recall and precision.
    """
    ignore = np.asarray(ignore, bool)
    recall, precision = pairs.area_recall(), pairs.area_precision()
    skip = (precision[ignore] > AREA_PRECISION).any(axis=0)
    overlapping = pairs.dense() > 0
    texts_of = (overlapping & ~ignore[:, None]).sum(axis=0)  # texts that a detection touches
    found_of = (overlapping & ~skip[None]).sum(axis=1)  # detections that a text is touched by

    good = (recall >= AREA_RECALL) & (precision >= AREA_PRECISION)
    alone = good & (good.sum(axis=1) == 1)[:, None] & (good.sum(axis=0) == 1)[None]
    alone &= (found_of == 1)[:, None] & (texts_of == 1)[None] & ~ignore[:, None] & ~skip[None]
    # neither is touched by anything else, so that no split or merge below takes them. The official program also wants
    # the centres of the bounding boxes nearer than the mean of their diagonals, which all boxes that overlap are
    recall_sum = precision_sum = float(alone.sum())
    free_g, free_d = ~ignore, ~skip

    candidates = precision >= AREA_PRECISION
    for k in np.flatnonzero(free_g & (found_of >= 2)):
        parts = np.flatnonzero(candidates[k] & free_d)
        if round(recall[k, parts].sum(), 4) >= AREA_RECALL:
            worth = 1.0 if len(parts) == 1 else SPLIT
            recall_sum += worth
            precision_sum += worth * len(parts)
            free_g[k], free_d[parts] = False, False

    candidates = recall >= AREA_RECALL
    for k in np.flatnonzero(free_d & (texts_of >= 2)):
        parts = np.flatnonzero(candidates[:, k] & free_g)
        if round(precision[parts, k].sum(), 4) >= AREA_PRECISION:
            recall_sum += len(parts)
            precision_sum += 1
            free_g[parts] = False
    return recall_sum, precision_sum, int((~ignore).sum()), int((~skip).sum())


class DetEval:
    """Sums pooled over all images.

    >>> import numpy as np
    >>> from ocr.metrics.protocol import evaluate
    >>> from ocr.types import Detections, Truth
    >>> line = np.array([[0, 0], [20, 0], [20, 2], [0, 2]], np.float32)
    >>> halves = Detections([line * (0.5, 1), line * (0.5, 1) + (10, 0)], np.ones(2))
    >>> round(evaluate(DetEval(), [halves], [Truth([line], np.zeros(1, bool))])["deteval_hmean"], 2)
    0.8
    """

    size = 4

    def count(self, image: ComparedImage) -> np.ndarray:
        """Counts of :func:`deteval`, float64 (4,)."""
        return np.array(deteval(image.pairs, image.truth.ignore), np.float64)

    def scores(self, totals: np.ndarray) -> dict[str, float]:
        """``deteval_precision``, ``deteval_recall`` and ``deteval_hmean``."""
        recall_sum, precision_sum, texts, detected = totals.tolist()
        return {f"deteval_{k}": v for k, v in scores(precision_sum, detected, recall_sum, texts).items()}
