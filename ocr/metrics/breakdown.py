"""Breakdown of the plain score: by score threshold, text height and aspect ratio, and the IoU of matches.

One-to-one matching at IoU 0.5, as the plain hmean; fixed-size counts that add up over images and ranks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely

from ocr.geometry.offsets import short_side
from ocr.geometry.polygons import aspect_ratios
from ocr.metrics.matching import ComparedImage, scores

HEIGHTS = (0, 8, 12, 16, 24, 32, 48, 64)  # pixels of the original image, lower bounds
ASPECTS = (0, 0.5, 1, 2, 4, 8, 16)  # width / height, lower bounds
STEPS = 200  # score thresholds from 0 to 1
SHAPES = {"height": (3, len(HEIGHTS)), "aspect": (3, len(ASPECTS)), "curve": (2, STEPS + 1), "iou": (2,)}


class Breakdown:
    """Counts behind a precision-recall curve and scores by size and shape."""

    size = sum(int(np.prod(shape)) for shape in SHAPES.values())

    def count(self, image: ComparedImage) -> np.ndarray:
        """The tables of :data:`SHAPES` one after the other, float64 (size,)."""
        truth, pairs, match = image.truth, image.pairs, image.match
        cared, counts = ~np.asarray(truth.ignore, bool), ~match.dont_care
        hit_g, hit_d = cared & (match.truth >= 0), match.detection >= 0
        sides = tuple(short_side(shapely.area(s), shapely.length(s)) for s in (pairs.truths, pairs.detections))
        ratios = (aspect_ratios(truth.polygons), aspect_ratios(image.detections.polygons))
        tables: list[Any] = []
        for edges, (of_truth, of_detections) in ((HEIGHTS, sides), (ASPECTS, ratios)):
            bins_g, bins_d = (np.searchsorted(edges, v, side="right") - 1 for v in (of_truth, of_detections))
            if len(bins_g):  # a matched detection counts in the bin of its text
                bins_d = np.where(hit_d, bins_g[match.detection], bins_d)
            tables += [np.bincount(b, minlength=len(edges)) for b in (bins_g[hit_g], bins_d[counts], bins_g[cared])]
        step = np.clip(np.floor(np.asarray(image.detections.scores, np.float64) * STEPS).astype(int), 0, STEPS)
        tables += [np.bincount(step[k], minlength=STEPS + 1) for k in (hit_d & counts, counts)]
        return np.concatenate([*tables, [match.iou[hit_g].sum(), hit_g.sum()]]).astype(np.float64)

    def scores(self, totals: np.ndarray) -> dict[str, float]:
        """``mean_iou`` of the matches, 0 without any."""
        total, matches = _split(totals)["iou"].tolist()
        return {"mean_iou": total / matches if matches else 0.0}

    def tables(self, totals: np.ndarray) -> dict[str, list[dict[str, float]]]:
        """Rows of plain floats.

        Returns:
            height, aspect: a row per bin: lower bound (``from``), texts, and its precision, recall and hmean.
            curve: a row per threshold on the score, rising: threshold, precision, recall, hmean.
        """
        parts, tables = _split(totals), {}
        for name, edges in (("height", HEIGHTS), ("aspect", ASPECTS)):
            matched, detected, texts = parts[name].tolist()
            rows = [scores(m, d, m, w) | {"from": e, "texts": w} for m, d, w, e in zip(matched, detected, texts, edges)]
            tables[name] = [row for row, d in zip(rows, detected) if row["texts"] or d]
        hits, detected = np.flip(np.cumsum(np.flip(parts["curve"], 1), 1), 1).tolist()
        texts = float(parts["height"][2].sum())
        rows = [scores(h, d, h, texts) | {"threshold": k / STEPS} for k, (h, d) in enumerate(zip(hits, detected))]
        tables["curve"] = [row for row, d in zip(rows, detected) if d]
        return tables


def _split(totals: np.ndarray) -> dict[str, np.ndarray]:
    ends = np.cumsum([np.prod(shape) for shape in SHAPES.values()])
    return {name: part.reshape(SHAPES[name]) for name, part in zip(SHAPES, np.split(totals, ends[:-1]))}
