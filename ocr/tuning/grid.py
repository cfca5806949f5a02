"""The combinations of post-processing parameters that tuning tries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from ocr.errors import UserError
from ocr.pipeline import Pipeline
from ocr.utils.typed import Fraction


@dataclass(frozen=True)
class Grid:
    """The values that tuning tries; it tries every combination.

    Attributes:
        long_side: input sizes; empty for the pipeline's own.
        thresh, box_thresh, min_size: of :class:`ocr.pipeline.PostProcess`.
        unclip: amounts by kind.
        folds, repeats: of the cross-validation, and how often images are shuffled into folds.
        deteval_weight: w in the objective, (1 - w) hmean at IoU 0.5 + w DetEval's hmean. IoU 0.5 hardly sees whether
            boxes cover their text, which a text recogniser needs and DetEval measures.
    """

    long_side: tuple[int, ...]
    thresh: tuple[Fraction, ...]
    box_thresh: tuple[Fraction, ...]
    min_size: tuple[float, ...]
    unclip: dict[str, tuple[float, ...]]
    folds: int
    repeats: int
    deteval_weight: float

    def __post_init__(self) -> None:
        for name in ("long_side", "thresh", "box_thresh", "min_size"):
            object.__setattr__(self, name, tuple(sorted(set(getattr(self, name)))))
            if not getattr(self, name) and name != "long_side":
                raise UserError(f"tuning.{name} is empty: nothing to try")
        object.__setattr__(self, "unclip", {kind: tuple(sorted(set(v))) for kind, v in self.unclip.items() if v})
        if not self.unclip:
            raise UserError("tuning.unclip is empty: nothing to try")
        if self.folds < 2:
            raise UserError(f"tuning.folds must be at least 2, got {self.folds}")
        if self.repeats < 1:
            raise UserError(f"tuning.repeats must be at least 1, got {self.repeats}")
        if not 0 <= self.deteval_weight <= 1:
            raise UserError(f"tuning.deteval_weight must lie in 0..1, got {self.deteval_weight}")

    def unclip_options(self) -> list[tuple[str, float]]:
        return [(kind, amount) for kind, amounts in self.unclip.items() for amount in amounts]

    def with_current(self, pipeline: Pipeline) -> Grid:
        """The pipeline's own values added, so that what there is now is among what is compared."""
        now = pipeline.postprocess
        unclip = {**self.unclip, now.unclip: (*self.unclip.get(now.unclip, ()), now.unclip_ratio)}
        return replace(
            self, long_side=(*self.long_side, pipeline.resize.long_side), thresh=(*self.thresh, now.thresh),
            box_thresh=(*self.box_thresh, now.box_thresh), min_size=(*self.min_size, now.min_size), unclip=unclip,
        )  # fmt: skip

    def combinations(self, long_sides: Sequence[int]) -> list[dict[str, Any]]:
        """Combinations in the order of :func:`count_image`'s rows."""
        return [
            {"long_side": side, "thresh": t, "unclip": kind, "unclip_ratio": amount, "box_thresh": b, "min_size": m}
            for side, t, (kind, amount), b, m in product(
                long_sides, self.thresh, self.unclip_options(), self.box_thresh, self.min_size
            )
        ]
