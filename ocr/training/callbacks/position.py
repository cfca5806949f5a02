"""Position of a training within its epoch, to resume from there."""

from __future__ import annotations

import logging
from typing import Any

import lightning as L
import numpy as np
import torch

from ocr.data.datamodule import DetectionData
from ocr.data.samplers import EpochRest
from ocr.training.trainer import samples_per_step

log = logging.getLogger(__name__)
KEY = "position"  # in a checkpoint


class EpochPosition(L.Callback):
    """Checkpoints hold the position of a training in its epoch; a resumed one goes on from there.

    The position is (seed, epoch, samples seen): which samples follow is a function of it, and so is the randomness of
    the network in a step, as of dropout. So a training goes on as if it had not stopped, with any number of loader
    processes and ranks.

    Args:
        data: of the training.
    """

    def __init__(self, data: DetectionData) -> None:
        self.data = data
        self._batches = 0  # of the epoch that this training has begun in, that Lightning counts as done before it

    def _seen(self, trainer: L.Trainer, batches: int) -> int:
        """Samples of this epoch that all ranks have seen together."""
        rest = self.data.rest
        if rest is None or rest.epoch != trainer.current_epoch:
            return batches * self._global_batch(trainer)
        return min(rest.end, rest.seen + (batches - self._batches) * self._global_batch(trainer))

    def _end(self, trainer: L.Trainer) -> int:
        """Samples of this epoch that all ranks will have seen together."""
        rest = self.data.rest
        return rest.end if rest and rest.epoch == trainer.current_epoch else self._full_batches(trainer)[1]

    def _full_batches(self, trainer: L.Trainer) -> tuple[int, int]:
        """Number of batches per epoch, and of the samples in them."""
        total, batch = sum(self.data.samples_per_epoch()), self._global_batch(trainer)
        whole, limit = max(1, total // batch), trainer.limit_train_batches
        whole = min(whole, limit) if isinstance(limit, int) else int(whole * limit)
        return whole, min(total, whole * batch)

    def _global_batch(self, trainer: L.Trainer) -> int:
        return self.data.batch_size * trainer.world_size

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        processed = trainer.fit_loop.epoch_loop.batch_progress.current.processed  # type: ignore[attr-defined]
        checkpoint[KEY] = {
            "seed": self.data.seed,
            "epoch": trainer.current_epoch,
            "seen": self._seen(trainer, processed),
            "end": self._end(trainer),
            "samples_per_epoch": sum(self.data.samples_per_epoch()),
            "samples_per_step": samples_per_step(trainer, self.data.batch_size),
        }

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Tell the data where to begin, and Lightning how many batches of this training's size that is."""
        loops = checkpoint["loops"]["fit_loop"]
        epoch = loops["epoch_progress"]["current"]["processed"]
        whole, end = self._full_batches(trainer)
        self.data.rest, left = EpochRest(epoch, 0, end), whole
        progress, stored = loops["epoch_loop.batch_progress"], checkpoint.get(KEY)
        if stored is not None and stored["epoch"] == epoch:
            left = self._begun_epoch(stored, whole, end, trainer)
            self._batches = max(0, whole - left)
            moved = self._batches - progress["current"]["processed"]
            progress["current"] = {name: count + moved for name, count in progress["current"].items()}
        elif stored is not None:
            # the epoch before is complete; with trainer.max_steps, Lightning would go through it once more
            for counts in loops["epoch_progress"].values():
                counts["completed"] = counts["processed"]
            progress["is_last_batch"] = False
            progress["current"] = dict.fromkeys(progress["current"], 0)
        if stored is not None and stored["samples_per_step"] != samples_per_step(trainer, self.data.batch_size):
            self.data.training_steps = self._steps(checkpoint["global_step"], epoch, left, whole, trainer)

    def _begun_epoch(self, stored: dict[str, int], whole: int, end: int, trainer: L.Trainer) -> int:
        """Batches of this training's size that are left of the epoch that the stopped run was in."""
        total, epoch = sum(self.data.samples_per_epoch()), stored["epoch"]
        for name, now in (("seed", self.data.seed), ("samples_per_epoch", total)):
            if stored[name] != now:
                log.warning("resume: %s %s -> %s: what is left of epoch %d is not what the stopped run left", name,
                            stored[name], now, epoch + 1)  # fmt: skip
        end = stored["end"] if stored["samples_per_epoch"] == total else end
        self.data.rest = EpochRest(epoch, stored["seen"], end)
        left = -(-self.data.rest.share(trainer.world_size) // self.data.batch_size)
        if left > whole:
            log.warning("resume: an epoch has %d batches now, fewer than the %d that are left of epoch %d", whole, left,
                        epoch + 1)  # fmt: skip
        return min(left, whole)

    def _steps(self, done: int, epoch: int, left: int, whole: int, trainer: L.Trainer) -> int | None:
        """Steps of the whole training, where those that are done were of another size; None without an end."""
        if trainer.max_epochs in (None, -1):
            return None
        accumulate = trainer.accumulate_grad_batches
        steps = done - (-left // accumulate) - (-whole // accumulate) * (trainer.max_epochs - epoch - 1)
        return min(steps, trainer.max_steps) if trainer.max_steps != -1 else steps

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        entropy = [self.data.seed, trainer.current_epoch, self._seen(trainer, batch_idx), trainer.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1))
