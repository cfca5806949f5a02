"""Precision, recall and hmean of one-to-one matching at IoU 0.5, as in ICDAR 2015; the headline protocol."""

from __future__ import annotations

import numpy as np

from ocr.metrics.matching import ComparedImage, scores


class Hmean:
    """Counts pooled over all images.

    >>> import numpy as np
    >>> from ocr.metrics.protocol import evaluate
    >>> from ocr.types import Detections, Truth
    >>> square = np.array([[0, 0], [4, 0], [4, 4], [0, 4]], np.float32)
    >>> found, truth = Detections([square], np.ones(1)), Truth([square, square + 9], np.zeros(2, bool))
    >>> {name: round(value, 2) for name, value in evaluate(Hmean(), [found], [truth]).items()}
    {'precision': 1.0, 'recall': 0.5, 'hmean': 0.67}
    """

    size = 3

    def count(self, image: ComparedImage) -> np.ndarray:
        """(matched, detected, texts), float64 (3,); ignored text and detections on it are left out."""
        match, texts = image.match, ~np.asarray(image.truth.ignore, bool)
        return np.array([(match.truth >= 0).sum(), (~match.dont_care).sum(), texts.sum()], np.float64)

    def scores(self, totals: np.ndarray) -> dict[str, float]:
        """``precision``, ``recall`` and ``hmean``."""
        matched, detected, texts = totals.tolist()
        return scores(matched, detected, matched, texts)
