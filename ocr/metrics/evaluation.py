"""All metrics of a pass over a split: polygons are compared once, every protocol reads the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ocr.metrics.breakdown import Breakdown
from ocr.metrics.cleval import CLEval
from ocr.metrics.deteval import DetEval
from ocr.metrics.hmean import DetectionHmean, count
from ocr.metrics.matching import Match, match_pairs, pair
from ocr.metrics.scores import sample_scores
from ocr.types import Detections, Truth


@dataclass(frozen=True)
class BatchResult:
    """What came of some images.

    Attributes:
        matches: of each image.
        scores: precision, recall and hmean of all of them, see :func:`ocr.metrics.scores.sample_scores`.
        image_scores: the same of each, with the counts ``matched``, ``detected`` and ``wanted``.
    """

    matches: list[Match]
    scores: dict[str, float]
    image_scores: list[dict[str, float]]


class Evaluation:
    """The plain hmean at IoU 0.5, DetEval, CLEval and what lies behind the first.

    No ``nn.Module``, so that its float64 states stay on the CPU when the module that has it goes to a device: Apple's
    GPUs have no float64.
    """

    def __init__(self) -> None:
        self.plain, self.deteval, self.cleval, self.breakdown = DetectionHmean(), DetEval(), CLEval(), Breakdown()

    @torch.no_grad()
    def update(self, detections: Sequence[Detections], truths: Sequence[Truth]) -> BatchResult:
        """Add images, one entry each in both lists."""
        pairs = [pair(d.polygons, t.polygons) for d, t in zip(detections, truths, strict=True)]
        matches = [match_pairs(p, t.ignore, self.plain.threshold) for p, t in zip(pairs, truths)]
        self.plain.update(detections, truths, matches)
        self.deteval.update(detections, truths, pairs)
        self.cleval.update(detections, truths, pairs)
        self.breakdown.update(detections, truths, pairs, matches)
        counts = [count(m, t.ignore) for m, t in zip(matches, truths)]
        each = [dict(zip(("matched", "detected", "wanted"), c)) | sample_scores(*c) for c in counts]
        return BatchResult(matches, sample_scores(*np.sum(counts, axis=0).tolist()), each)

    def compute(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Scalars by name, a second protocol's with its name in front; and the tables of the breakdown."""
        tables = self.breakdown.compute()
        values = {**self.plain.compute(), "mean_iou": tables.pop("mean_iou")}
        for name, metric in (("deteval", self.deteval), ("cleval", self.cleval)):
            values |= {f"{name}_{key}": value for key, value in metric.compute().items()}
        return values, tables

    def reset(self) -> None:
        for metric in (self.plain, self.deteval, self.cleval, self.breakdown):
            metric.reset()
