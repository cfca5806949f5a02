"""A progress bar with loss, hmean, images per second and the time left; in a log file one line per epoch instead."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.trainer.states import TrainerFn

log = logging.getLogger(__name__)


class Progress(TQDMProgressBar):
    """Lightning's bar with our figures.

    Args:
        refresh_rate: batches between updates of the bar.
    """

    def __init__(self, refresh_rate: int = 1) -> None:
        super().__init__(refresh_rate=refresh_rate if sys.stderr.isatty() else 0)
        self._started = self._fit_started = 0.0
        self._first_step = 0
        self._images = 0
        self.images_per_second = 0.0  # of the training part of this epoch, over all ranks

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """Figures behind the bar."""
        metrics = trainer.callback_metrics
        shown = {}
        if "train/loss" in metrics:
            shown["loss"] = f"{metrics['train/loss']:.3f}"
        stage = "test" if trainer.testing else "val"
        if f"{stage}/hmean" in metrics:
            shown["hmean"] = f"{metrics[f'{stage}/hmean']:.3f}"
        if self.images_per_second:
            shown["img/s"] = f"{self.images_per_second:.1f}"
        if (left := self.seconds_left(trainer)) is not None:
            shown["left"] = f"{left / 60:.0f}min" if left >= 100 else f"{left:.0f}s"
        return shown

    def seconds_left(self, trainer: L.Trainer) -> float | None:
        """Seconds left at the pace so far, validations included; None before the first step."""
        done = trainer.global_step - self._first_step
        steps = float(trainer.estimated_stepping_batches) if done > 0 and trainer.state.fn == TrainerFn.FITTING else 0.0
        if not 0 < steps < float("inf"):
            return None
        return (time.perf_counter() - self._fit_started) / done * max(0.0, steps - trainer.global_step)

    def on_train_start(self, trainer: L.Trainer, *args: Any) -> None:
        super().on_train_start(trainer, *args)
        self._fit_started, self._first_step = time.perf_counter(), trainer.global_step

    def on_train_epoch_start(self, trainer: L.Trainer, *args: Any) -> None:
        super().on_train_epoch_start(trainer, *args)
        self._started, self._images = time.perf_counter(), 0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._images += len(batch["image"]) * trainer.world_size
        self.images_per_second = self._images / max(time.perf_counter() - self._started, 1e-9)
        if trainer.is_last_batch:
            pl_module.log("train/images_per_second", self.images_per_second, rank_zero_only=True)
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if trainer.is_global_zero and not trainer.sanity_checking and not sys.stderr.isatty():
            shown = " ".join(f"{name} {value}" for name, value in self.get_metrics(trainer, pl_module).items())
            epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs or 0}"
            log.info("%s %s", epoch if trainer.state.fn == TrainerFn.FITTING else "initial weights", shown)
