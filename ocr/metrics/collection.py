"""The protocols of a pass over a split, as torchmetrics; polygons are compared once for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torchmetrics import Metric

from ocr.errors import UserError
from ocr.metrics.hmean import count
from ocr.metrics.matching import ComparedImage, Match, compare, sample_scores
from ocr.metrics.protocol import EvaluationProtocol
from ocr.types import Detections, Truth
from ocr.utils.distributed import gather_objects


class PooledMetric(Metric):
    """Sums the counts of a protocol over images and ranks.

    Args:
        protocol: what is counted, and the scores of the sums.
    """

    full_state_update = False
    totals: torch.Tensor  # float64 (protocol.size,)
    higher_is_better = True

    def __init__(self, protocol: EvaluationProtocol) -> None:
        super().__init__(dist_sync_fn=gather_objects)
        self.protocol = protocol
        self.add_state("totals", torch.zeros(protocol.size, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, images: Sequence[ComparedImage]) -> None:
        """Add images."""
        for image in images:
            self.totals += torch.as_tensor(self.protocol.count(image), dtype=torch.float64, device=self.totals.device)

    def compute(self) -> tuple[dict[str, float], dict[str, Any]]:
        """Scores by name; and tables, where the protocol has some."""
        totals = self.totals.cpu().numpy()
        tables = getattr(self.protocol, "tables", None)
        return self.protocol.scores(totals), tables(totals) if tables else {}


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
    """All protocols of ``configs/metrics``.

    No ``nn.Module``, so that its float64 states stay on the CPU when the module that has it goes to a device: Apple's
    GPUs have no float64.

    Args:
        protocols: by name; None for one that is switched off.
    """

    def __init__(self, protocols: Mapping[str, EvaluationProtocol | None]) -> None:
        self.metrics = {name: PooledMetric(p) for name, p in protocols.items() if p is not None}

    @torch.no_grad()
    def update(self, detections: Sequence[Detections], truths: Sequence[Truth]) -> BatchResult:
        """Add images, one entry each in both lists."""
        images = [compare(d, t) for d, t in zip(detections, truths, strict=True)]
        for metric in self.metrics.values():
            metric.update(images)
        counts = [count(image.match, image.truth.ignore) for image in images]
        per_image = [dict(zip(("matched", "detected", "texts"), c)) | sample_scores(*c) for c in counts]
        return BatchResult([i.match for i in images], sample_scores(*np.sum(counts, axis=0).tolist()), per_image)

    def compute(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Scores by name, float32 scalars; and the tables of protocols that have some.

        Raises:
            UserError: two protocols have a score of the same name.
        """
        values: dict[str, torch.Tensor] = {}
        tables: dict[str, Any] = {}
        for name, metric in self.metrics.items():
            metric_scores, more = metric.compute()
            if both := set(metric_scores) & set(values):
                raise UserError(f"metrics.{name}: its {', '.join(sorted(both))} is a score of another metric, too")
            values |= {key: torch.tensor(value, dtype=torch.float32) for key, value in metric_scores.items()}
            tables |= more
        return values, tables

    def reset(self) -> None:
        for metric in self.metrics.values():
            metric.reset()
