"""Callbacks of training and testing."""

from __future__ import annotations

from typing import Any

import lightning as L
from torch.nn.utils import get_total_norm

from ocr.errors import UserError


class BestScores(L.Callback):
    """Keeps the validation metrics of the epoch that the monitored one was best in.

    Args:
        monitor: name of the metric.
        mode: ``max`` or ``min``, what is better.
    """

    def __init__(self, monitor: str, mode: str) -> None:
        if mode not in ("max", "min"):
            raise UserError(f"callbacks.best_scores.mode must be max or min, got {mode!r}")
        self.monitor, self.mode = monitor, mode
        self.scores: dict[str, float] = {}
        self.epoch: int | None = None

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking or self.monitor not in trainer.callback_metrics:
            return
        kept = [k for k in trainer.callback_metrics if k.startswith("val/") or k == self.monitor]
        metrics = {k: float(trainer.callback_metrics[k]) for k in kept}
        sign = 1 if self.mode == "max" else -1
        if not self.scores or sign * metrics[self.monitor] > sign * self.scores[self.monitor]:
            self.scores, self.epoch = metrics, trainer.current_epoch

    def state_dict(self) -> dict[str, Any]:
        return {"scores": self.scores, "epoch": self.epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.scores, self.epoch = dict(state_dict["scores"]), state_dict["epoch"]


class FiniteWeights(L.Callback):
    """Ends a training whose weights are no longer numbers, before it spends hours on nothing.

    The weights are looked at and not the loss, since all ranks have the same ones and so end together, and since a
    scaler of gradients may skip a step with an infinite loss.

    Args:
        every: training steps from one look to the next; there is one before each validation, too.
    """

    def __init__(self, every: int) -> None:
        if not isinstance(every, int) or every < 1:
            raise UserError(f"callbacks.finite_weights.every must be a whole number from 1, got {every!r}")
        self.every = every

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every == 0:
            self._look(trainer, pl_module)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._look(trainer, pl_module)

    def _look(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trained = [p.detach() for p in pl_module.parameters() if p.requires_grad]
        if bool(get_total_norm(trained).isfinite()):
            return
        best = getattr(trainer.checkpoint_callback, "best_model_path", "")
        kept = f"; the best weights until then are in {best}" if best else ""
        raise UserError(
            f"the weights are not finite after step {trainer.global_step}: try a lower optimizer.lr"
            f" or trainer.precision=32-true{kept}"
        )
