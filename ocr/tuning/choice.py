"""Which combination is best, and what choosing one gains on images that it was not chosen on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ocr.metrics.matching import scores
from ocr.pipeline import Pipeline

FIGURES = ("objective", "precision", "recall", "hmean", "deteval_hmean", "mean_iou")  # what is said of a combination


@dataclass(frozen=True)
class Tuned:
    """Result of tuning.

    Attributes:
        before, best: the pipeline's combination and the one to take, with their :data:`FIGURES`.
        held_out: the figures of all images, each under the combinations chosen without its folds.
        held_out_spread: standard deviation over folds of the gain in objective.
        kept_current: whether the pipeline's own combination is the one to take since choosing loses on held-out images.
        table: all combinations, those of the highest objective first.
    """

    before: dict[str, Any]
    best: dict[str, Any]
    held_out: dict[str, float]
    held_out_spread: float
    kept_current: bool
    table: list[dict[str, Any]]

    def gain(self, figure: str = "objective") -> float:
        """Gain on images that the choice was not made on."""
        return self.held_out[figure] - self.before[figure]

    def pipeline(self, old: Pipeline) -> Pipeline:
        """The old one with the best combination."""
        resize = replace(old.resize, long_side=self.best["long_side"])
        names = ("thresh", "box_thresh", "min_size", "unclip", "unclip_ratio")
        return replace(old, resize=resize, postprocess=replace(old.postprocess, **{n: self.best[n] for n in names}))

    def to_dict(self) -> dict[str, Any]:
        """Plain types, without the table."""
        plain = {k: v for k, v in asdict(self).items() if k != "table"}
        return plain | {"gain": self.gain(), "combinations": len(self.table)}


def choose(
    counts: np.ndarray,
    combinations: Sequence[dict[str, Any]],
    now: dict[str, Any],
    folds: int,
    deteval_weight: float,
    repeats: int,
) -> Tuned:
    """The best combination, and what choosing one gains on images that it is not chosen on.

    Where it loses there, as it may with few images, the pipeline's own combination is kept.

    Args:
        counts: float64 (images, combinations, 7), see :func:`count_image`.
        combinations: what each row stands for.
        now: the pipeline's own, one of them.
        folds: images are dealt out in turn; at most one fold per image.
        deteval_weight, repeats: see :class:`Grid`; after the first, images are dealt out in random order, always the
            same.
    """
    figures = partial(_figures, deteval_weight=deteval_weight)
    whole, order = counts.sum(axis=0), np.arange(len(counts))
    rows = [{**combination, **figures(total)} for combination, total in zip(combinations, whole.tolist())]
    here = combinations.index(now)
    held_out, gains, rng = np.zeros(counts.shape[2]), [], np.random.default_rng(0)
    for _ in range(repeats):
        for k in range(min(folds, len(counts))):
            part = counts[order[k::folds]].sum(axis=0)
            chosen = _best(whole - part, deteval_weight) if len(counts) > 1 else here
            held_out += part[chosen]
            gains.append(figures(part[chosen].tolist())["objective"] - figures(part[here].tolist())["objective"])
        order = rng.permutation(len(counts))
    outside = figures(held_out.tolist())
    # sums of the same counts may differ in their last digit
    loses = outside["objective"] < rows[here]["objective"] - 1e-9
    best = here if loses else _best(whole, deteval_weight, prefer=here)
    table = sorted(rows, key=lambda row: -row["objective"])
    return Tuned(rows[here], rows[best], outside, float(np.std(gains)), loses, table)


def _figures(total: Sequence[float], deteval_weight: float) -> dict[str, float]:
    """:data:`FIGURES` of counts summed over images."""
    texts, detections, matched, overlap, deteval_detections, precision_sum, recall_sum = total
    plain = scores(matched, detections, matched, texts)
    deteval_hmean = scores(precision_sum, deteval_detections, recall_sum, texts)["hmean"]
    objective = (1 - deteval_weight) * plain["hmean"] + deteval_weight * deteval_hmean
    mean_iou = overlap / matched if matched else 0.0
    return {"objective": objective, **plain, "deteval_hmean": deteval_hmean, "mean_iou": mean_iou}


def _best(total: np.ndarray, deteval_weight: float, prefer: int | None = None) -> int:
    """Index of the highest objective; what there is already wins a tie.

    ``total`` are counts of each combination summed over images, (combinations, 7).
    """
    objective = [_figures(row, deteval_weight)["objective"] for row in total.tolist()]
    best = max(range(len(objective)), key=objective.__getitem__)
    return prefer if prefer is not None and objective[prefer] == objective[best] else best
