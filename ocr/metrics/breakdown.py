"""Where the plain score comes from: over score thresholds, by text height, by aspect ratio, and how tight matches are.

One-to-one matching at IoU 0.5, as the plain hmean; fixed-size counts that add up over images and ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
import torch
from torchmetrics import Metric

from ocr.geometry.offsets import short_side
from ocr.metrics.cleval import aspect_ratios
from ocr.metrics.matching import Match, Pairs
from ocr.metrics.scores import scores
from ocr.types import Detections, Truth
from ocr.utils.distributed import gather_objects

HEIGHTS = (0, 8, 12, 16, 24, 32, 48, 64)  # pixels of the original image, lower bounds
ASPECTS = (0, 0.5, 1, 2, 4, 8, 16)  # width / height, lower bounds
STEPS = 200  # score thresholds from 0 to 1


def _short_sides(shapes: np.ndarray) -> np.ndarray:
    return short_side(shapely.area(shapes), shapely.length(shapes))


class Breakdown(Metric):
    """Counts behind a precision-recall curve and scores by size and shape."""

    full_state_update = False

    def __init__(self) -> None:
        super().__init__(dist_sync_fn=gather_objects)
        for name, size in (("height", len(HEIGHTS)), ("aspect", len(ASPECTS))):
            self.add_state(name, torch.zeros(3, size, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("curve", torch.zeros(2, STEPS + 1, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("iou", torch.zeros(2, dtype=torch.float64), dist_reduce_fx="sum")

    def update(
        self,
        detections: Sequence[Detections],
        truths: Sequence[Truth],
        pairs: Sequence[Pairs],
        matches: Sequence[Match],
    ) -> None:
        """Add images, one entry each in all lists."""
        for found, truth, pair, match in zip(detections, truths, pairs, matches, strict=True):
            self._add(found, truth, pair, match)

    def _add(self, found: Detections, truth: Truth, pairs: Pairs, match: Match) -> None:
        wanted, counts = ~np.asarray(truth.ignore, bool), ~match.dont_care
        hit_g, hit_d = wanted & (match.truth >= 0), match.detection >= 0
        sides = (_short_sides(pairs.truths), _short_sides(pairs.detections))
        shapes = (aspect_ratios(truth.polygons), aspect_ratios(found.polygons))
        for state, edges, (of_truth, of_found) in ((self.height, HEIGHTS, sides), (self.aspect, ASPECTS, shapes)):
            bins_g, bins_d = (np.searchsorted(edges, values, side="right") - 1 for values in (of_truth, of_found))
            bins_d = np.where(hit_d, bins_g[match.detection], bins_d) if len(bins_g) else bins_d  # with its text
            table = [np.bincount(b, minlength=len(edges)) for b in (bins_g[hit_g], bins_d[counts], bins_g[wanted])]
            state += torch.as_tensor(np.array(table, np.float64), device=state.device)
        place = np.clip(np.floor(np.asarray(found.scores, np.float64) * STEPS).astype(int), 0, STEPS)
        curve = [np.bincount(place[k], minlength=STEPS + 1) for k in (hit_d & counts, counts)]
        self.curve += torch.as_tensor(np.array(curve, np.float64), device=self.curve.device)
        self.iou += torch.tensor([match.iou[hit_g].sum(), hit_g.sum()], dtype=torch.float64, device=self.iou.device)

    def compute(self) -> dict[str, Any]:
        """``mean_iou`` of the matches, and tables of plain floats.

        Returns:
            mean_iou: float32 scalar, 0 without matches.
            height, aspect: a row a bin: lower bound, texts, and its precision, recall and hmean.
            curve: a row a threshold on the score, rising: threshold, precision, recall, hmean.
        """
        total, matches = self.iou.tolist()
        tables: dict[str, Any] = {"mean_iou": torch.tensor(total / matches if matches else 0.0)}
        for name, edges in (("height", HEIGHTS), ("aspect", ASPECTS)):
            matched, detected, wanted = getattr(self, name).tolist()
            rows = [
                scores(m, d, m, w) | {"from": e, "texts": w} for m, d, w, e in zip(matched, detected, wanted, edges)
            ]
            tables[name] = [row for row, d in zip(rows, detected) if row["texts"] or d]
        hits, found = torch.flip(torch.cumsum(torch.flip(self.curve, (1,)), 1), (1,)).tolist()
        wanted = float(self.height[2].sum())
        rows = [scores(h, f, h, wanted) | {"threshold": k / STEPS} for k, (h, f) in enumerate(zip(hits, found))]
        tables["curve"] = [row for row, f in zip(rows, found) if f]
        return tables
