"""Interface of an evaluation protocol: counts per image that add up, and scores of their sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ocr.metrics.matching import ComparedImage, compare
from ocr.types import Detections, Truth


class EvaluationProtocol(Protocol):
    """A protocol, chosen by ``_target_`` in ``configs/metrics``. Needs numpy only; sums over ranks are done for it.

    Attributes:
        size: length of the vector of counts.
    """

    size: int

    def count(self, image: ComparedImage) -> np.ndarray:
        """Counts of one image, float64 (size,)."""

    def scores(self, totals: np.ndarray) -> dict[str, float]:
        """Scores by name from the counts of all images, float64 (size,)."""


def evaluate(
    protocol: EvaluationProtocol, detections: Sequence[Detections], truths: Sequence[Truth]
) -> dict[str, float]:
    """Scores of a protocol over images, one entry each in both lists.

    Raises:
        ValueError: the lists differ in length.
    """
    totals = np.zeros(protocol.size)
    for predicted, truth in zip(detections, truths, strict=True):
        totals += protocol.count(compare(predicted, truth))
    return protocol.scores(totals)
