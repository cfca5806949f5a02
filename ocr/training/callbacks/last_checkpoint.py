"""``last.ckpt``, which a training goes on from."""

from __future__ import annotations

import signal
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint

from ocr.errors import UserError
from ocr.tracking.ending import STEP_SIGNALS


class LastCheckpoint(ModelCheckpoint):
    """Writes the newest state after each epoch, every so many minutes within it, and when the job is terminated.

    A signal that arrives in the training part of an epoch waits for the end of the step, so that the checkpoint holds a
    whole number of steps; in a step that a validation follows, for that, too. A second signal does not wait.

    Args:
        every_minutes: between two checkpoints within an epoch; null for none within it.

    Raises:
        UserError: ``every_minutes`` is no positive number.
    """

    def __init__(self, dirpath: str, filename: str, every_minutes: float | None) -> None:
        super().__init__(dirpath, filename, save_on_train_epoch_end=True, enable_version_counter=False)
        if every_minutes is not None and (isinstance(every_minutes, bool) or not every_minutes > 0):
            raise UserError(f"checkpoint_every_minutes must be above 0, or null, got {every_minutes!r}")
        self.every_minutes = every_minutes
        self._saved = 0.0  # when, on the monotonic clock

    def on_train_start(self, *args: Any) -> None:
        super().on_train_start(*args)
        self._saved = time.monotonic()

    def on_train_batch_start(self, *_: Any) -> None:
        STEP_SIGNALS.hold()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        loop, fetcher = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
        assert fetcher is not None
        if trainer.is_last_batch or loop._should_accumulate() or loop._should_check_val_fx(fetcher):
            return  # a resumed training would leave out the validation that follows
        due = self.every_minutes is not None and time.monotonic() - self._saved >= 60 * self.every_minutes
        # of all ranks: clocks differ, and a signal may reach one rank alone
        if not trainer.strategy.reduce_boolean_decision(due or STEP_SIGNALS.arrived is not None, all=False):
            return
        path = self.format_checkpoint_name({})
        trainer.save_checkpoint(path, self.save_weights_only)
        self.best_model_path, self._saved = path, time.monotonic()
        self._end_where_told(trainer)

    def _end_where_told(self, trainer: L.Trainer) -> None:
        """End all ranks where a signal has come to one of them."""
        if trainer.strategy.reduce_boolean_decision(STEP_SIGNALS.arrived is not None, all=False):
            STEP_SIGNALS.release(signal.SIGTERM)

    def on_validation_start(self, *_: Any) -> None:
        STEP_SIGNALS.let_through()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        self._saved = time.monotonic()
        self._end_where_told(trainer)

    def on_train_end(self, *args: Any) -> None:
        super().on_train_end(*args)
        STEP_SIGNALS.release()

    def on_exception(self, *args: Any) -> None:
        super().on_exception(*args)
        STEP_SIGNALS.drop()
