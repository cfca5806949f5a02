"""Trials of a sweep that fall behind end early."""

from __future__ import annotations

import math
from contextvars import ContextVar
from typing import TYPE_CHECKING

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn

if TYPE_CHECKING:
    from optuna.trial import Trial

TRIAL: ContextVar[Trial | None] = ContextVar("trial", default=None)  # that the training of this process belongs to


class Pruning(L.Callback):
    """Reports a metric per epoch to the sweep's study, and stops the training when the pruner says so.

    Outside a sweep it does nothing.
    """

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor
        self.pruned: str | None = None  # why the training was stopped, one line

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        epoch = trainer.current_epoch
        trial, value = TRIAL.get(), float(trainer.callback_metrics.get(self.monitor, math.nan))
        stop = False
        if trial is not None and trainer.is_global_zero and math.isfinite(value):
            trial.report(value, epoch)
            last = trainer.max_epochs is not None and 0 <= trainer.max_epochs <= epoch + 1
            stop = not last and trial.should_prune()
        if trainer.strategy.broadcast(stop):
            trainer.should_stop = True
            self.pruned = f"pruned after epoch {epoch + 1}: {self.monitor} {value:.4f} is behind other trials"
