"""The protocols of a pass over a split; polygons are compared once for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ocr.errors import UserError
from ocr.metrics.hmean import Hmean
from ocr.metrics.matching import Match, compare, sample_scores
from ocr.metrics.protocol import EvaluationProtocol
from ocr.types import Detections, Truth
from ocr.utils.distributed import gather_objects


@dataclass(frozen=True)
class BatchResult:
    """The plain scores of a batch of images.

    Attributes:
        matches: of each image.
        scores: precision, recall and hmean of all of them, see :func:`ocr.metrics.matching.sample_scores`.
        image_scores: the same of each, with the counts ``matched``, ``detected`` and ``texts``.
    """

    matches: list[Match]
    scores: dict[str, float]
    image_scores: list[dict[str, float]]


class MetricCollection:
    """All protocols of ``configs/metrics``, their counts summed over images and ranks.

    Args:
        protocols: by name; None for one that is switched off.
    """

    def __init__(self, protocols: Mapping[str, EvaluationProtocol | None]) -> None:
        self.protocols = {name: protocol for name, protocol in protocols.items() if protocol is not None}
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self.totals = {name: np.zeros(protocol.size) for name, protocol in self.protocols.items()}

    def update(self, detections: Sequence[Detections], truths: Sequence[Truth]) -> BatchResult:
        """Add images, one entry each in both lists."""
        images = [compare(d, t) for d, t in zip(detections, truths, strict=True)]
        for name, protocol in self.protocols.items():
            for image in images:
                self.totals[name] += protocol.count(image)
        counts = [Hmean().count(image).astype(int).tolist() for image in images]
        per_image = [dict(zip(("matched", "detected", "texts"), c)) | sample_scores(*c) for c in counts]
        return BatchResult([i.match for i in images], sample_scores(*np.sum(counts, axis=0).tolist()), per_image)

    def compute(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Scores by name, float32 scalars; and the tables of protocols that have some. All ranks call it together.

        Raises:
            UserError: two protocols have a score of the same name.
        """
        values: dict[str, torch.Tensor] = {}
        tables: dict[str, Any] = {}
        ranks = gather_objects(self.totals)
        for name, protocol in self.protocols.items():
            totals = np.sum([totals[name] for totals in ranks], axis=0)
            scores = protocol.scores(totals)
            if both := set(scores) & set(values):
                raise UserError(f"metrics.{name}: its {', '.join(sorted(both))} is a score of another metric, too")
            values |= {key: torch.tensor(value, dtype=torch.float32) for key, value in scores.items()}
            if hasattr(protocol, "tables"):
                tables |= protocol.tables(totals)
        return values, tables
