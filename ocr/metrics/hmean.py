"""Precision, recall and hmean at IoU 0.5, pooled over images and ranks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torchmetrics import Metric

from ocr.metrics.matching import Match, match
from ocr.metrics.scores import scores
from ocr.types import Detections, Truth
from ocr.utils.distributed import gather_objects


def count(found: Match, ignore: np.ndarray) -> tuple[int, int, int]:
    """(matched, detected, wanted) of one image, ignored text and what lies on it left out."""
    wanted = int(np.count_nonzero(~np.asarray(ignore, bool)))
    return int((found.truth >= 0).sum()), int((~found.dont_care).sum()), wanted


class DetectionHmean(Metric):
    """One-to-one matching at an IoU threshold, ignore-aware, counts pooled over all images.

    Args:
        threshold: a pair matches above this IoU.

    >>> import numpy as np
    >>> square = np.array([[0, 0], [4, 0], [4, 4], [0, 4]], np.float32)
    >>> metric = DetectionHmean()
    >>> metric.update([Detections([square], np.ones(1))], [Truth([square, square + 9], np.zeros(2, bool))])
    >>> {name: round(value.item(), 2) for name, value in metric.compute().items()}
    {'precision': 1.0, 'recall': 0.5, 'hmean': 0.67}
    """

    full_state_update = False
    higher_is_better = True

    def __init__(self, threshold: float = 0.5) -> None:
        super().__init__(dist_sync_fn=gather_objects)
        self.threshold = threshold
        self.add_state("counts", torch.zeros(3, dtype=torch.float64), dist_reduce_fx="sum")

    def update(
        self, detections: Sequence[Detections], truths: Sequence[Truth], matches: Sequence[Match] | None = None
    ) -> None:
        """Add images, one entry each in all lists.

        Args:
            matches: results of :func:`match` at the same threshold, where they are known already.
        """
        if len(detections) != len(truths):
            raise ValueError(f"{len(detections)} detections for {len(truths)} truths")
        if matches is None:
            matches = [match(d.polygons, t.polygons, t.ignore, self.threshold) for d, t in zip(detections, truths)]
        totals = np.sum([count(m, t.ignore) for m, t in zip(matches, truths)] or [(0, 0, 0)], axis=0)
        self.counts += torch.as_tensor(totals, dtype=self.counts.dtype, device=self.counts.device)

    def compute(self) -> dict[str, torch.Tensor]:
        """``precision``, ``recall`` and ``hmean``, float32 scalars."""
        matched, detected, wanted = self.counts.tolist()
        result = scores(matched, detected, matched, wanted)
        return {name: torch.tensor(value, dtype=torch.float32) for name, value in result.items()}
