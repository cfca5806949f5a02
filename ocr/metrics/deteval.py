"""DetEval: one-to-one, one-to-many and many-to-one matches by area (Wolf and Jolion 2006).

The variant is that of the Robust Reading Competition's script for focused text and for SROIE task 1: area recall at
least 0.8 and area precision at least 0.4, a text that is split into several detections counts 0.8, several texts
merged into one detection count in full. Areas are those of polygons, where the script takes upright rectangles whose
last pixel is counted (so that it adds 1 to each side); centres and diagonals are those of bounding boxes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torchmetrics import Metric

from ocr.metrics.matching import Pairs, pair
from ocr.metrics.scores import scores
from ocr.types import Detections, Truth
from ocr.utils.distributed import gather_objects

AREA_RECALL, AREA_PRECISION = 0.8, 0.4
SPLIT, MERGE = 0.8, 1.0  # what one-to-many and many-to-one matches count


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
    g, d = np.nonzero(alone)
    near = _distance(pairs, g, d) < 1
    free_g, free_d = ~ignore, ~skip
    free_g[g[near]] = free_d[d[near]] = False
    recall_sum = precision_sum = float(near.sum())

    candidates = precision >= AREA_PRECISION
    for k in np.flatnonzero(free_g & (found_of >= 2)):
        parts = np.flatnonzero(candidates[k] & free_d)
        if round(recall[k, parts].sum(), 4) >= AREA_RECALL:
            recall_sum += 1.0 if len(parts) == 1 else SPLIT
            precision_sum += 1.0 if len(parts) == 1 else SPLIT * len(parts)
            free_g[k], free_d[parts] = False, False

    candidates = recall >= AREA_RECALL
    for k in np.flatnonzero(free_d & (texts_of >= 2)):
        parts = np.flatnonzero(candidates[:, k] & free_g)
        if round(precision[parts, k].sum(), 4) >= AREA_PRECISION:
            recall_sum += 1.0 if len(parts) == 1 else MERGE * len(parts)
            precision_sum += 1.0 if len(parts) == 1 else MERGE
            free_d[k], free_g[parts] = False, False
    return recall_sum, precision_sum, int((~ignore).sum()), int((~skip).sum())


def _distance(pairs: Pairs, g: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Between the centres of bounding boxes, in means of their diagonals."""
    a, b = pairs.bounds_g[g], pairs.bounds_d[d]
    centres = np.linalg.norm((a[:, :2] + a[:, 2:] - b[:, :2] - b[:, 2:]) / 2, axis=1)
    diagonals = np.linalg.norm(a[:, 2:] - a[:, :2], axis=1) + np.linalg.norm(b[:, 2:] - b[:, :2], axis=1)
    return 2 * centres / np.maximum(diagonals, 1e-12)


class DetEval(Metric):
    """Pooled over images and ranks.

    >>> import numpy as np
    >>> line = np.array([[0, 0], [20, 0], [20, 2], [0, 2]], np.float32)
    >>> halves = [line * (0.5, 1), line * (0.5, 1) + (10, 0)]
    >>> metric = DetEval()
    >>> metric.update([Detections(halves, np.ones(2))], [Truth([line], np.zeros(1, bool))])
    >>> {name: round(value.item(), 2) for name, value in metric.compute().items()}
    {'precision': 0.8, 'recall': 0.8, 'hmean': 0.8}
    """

    full_state_update = False
    higher_is_better = True

    def __init__(self) -> None:
        super().__init__(dist_sync_fn=gather_objects)
        self.add_state("sums", torch.zeros(4, dtype=torch.float64), dist_reduce_fx="sum")

    def update(
        self, detections: Sequence[Detections], truths: Sequence[Truth], pairs: Sequence[Pairs] | None = None
    ) -> None:
        """Add images, one entry each in all lists; ``pairs`` where they are known already."""
        if pairs is None:
            pairs = [pair(d.polygons, t.polygons) for d, t in zip(detections, truths, strict=True)]
        totals = np.sum([deteval(p, t.ignore) for p, t in zip(pairs, truths)] or [(0, 0, 0, 0)], axis=0)
        self.sums += torch.as_tensor(totals, dtype=self.sums.dtype, device=self.sums.device)

    def compute(self) -> dict[str, torch.Tensor]:
        """``precision``, ``recall`` and ``hmean``, float32 scalars."""
        recall_sum, precision_sum, wanted, found = self.sums.tolist()
        result = scores(precision_sum, found, recall_sum, wanted)
        return {name: torch.tensor(value, dtype=torch.float32) for name, value in result.items()}
