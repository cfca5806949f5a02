"""Record all validation scores of the best weights."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn

from ocr.errors import UserError


class BestScores(L.Callback):
    """Keeps the validation metrics of the epoch that the monitored one was best in, or of the initial weights.

    Args:
        mode: ``max`` or ``min``, what is better in ``monitor``.

    Attributes:
        scores: the metrics; empty before the first validation.
        epoch: which one; None for the initial weights, where they were validated before the fit.
        validated: an epoch was validated.
    """

    def __init__(self, monitor: str, mode: str) -> None:
        if mode not in ("max", "min"):
            raise UserError(f"callbacks.best_scores.mode must be max or min, got {mode!r}")
        self.monitor, self.mode = monitor, mode
        self.scores: dict[str, float] = {}
        self.epoch: int | None = None
        self.validated = False

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking or self.monitor not in trainer.callback_metrics:
            return
        fitting = trainer.state.fn == TrainerFn.FITTING
        self.validated |= fitting
        kept = [k for k in trainer.callback_metrics if k.startswith("val/") or k == self.monitor]
        metrics = {k: float(trainer.callback_metrics[k]) for k in kept}
        sign = 1 if self.mode == "max" else -1
        if not self.scores or sign * metrics[self.monitor] > sign * self.scores[self.monitor]:
            self.scores, self.epoch = metrics, trainer.current_epoch if fitting else None

    def state_dict(self) -> dict[str, Any]:
        return {"scores": self.scores, "epoch": self.epoch, "validated": self.validated}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.scores, self.epoch = dict(state_dict["scores"]), state_dict["epoch"]
        self.validated = state_dict.get("validated", bool(self.scores))
