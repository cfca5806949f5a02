"""End a training whose weights are no longer finite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch.nn.utils import get_total_norm

from ocr.data.datasets import TrainSet
from ocr.errors import UserError
from ocr.utils.distributed import gather_objects


class FiniteWeights(L.Callback):
    """Ends a training whose weights are no longer numbers, before it spends hours on nothing.

    The network's weights and batch-norm statistics are looked at and not the loss, since a scaler of gradients may
    skip a step with an infinite loss. No checkpoint is written with such weights.

    Args:
        every: training steps from one look to the next; there is one before each validation and each checkpoint, too.
    """

    def __init__(self, every: int) -> None:
        if not isinstance(every, int) or every < 1:
            raise UserError(f"callbacks.finite_weights.every must be a whole number from 1, got {every!r}")
        self.every = every
        self._since: list[tuple[int, torch.Tensor, torch.Tensor]] = []  # step, loss, images; since the last look

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._since.append((trainer.global_step, outputs["loss"].detach(), batch["index"]))
        if trainer.global_step % self.every == 0:
            self._look(trainer, pl_module)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._look(trainer, pl_module)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._look(trainer, pl_module)

    def _look(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        state = [value for value in pl_module.state_dict().values() if value.is_floating_point()]
        finite = bool(get_total_norm(state).isfinite())
        # statistics may differ between ranks, and all must end together
        if trainer.strategy.reduce_boolean_decision(finite, all=True):
            self._since.clear()
            return
        paths = [getattr(callback, "best_model_path", "") for callback in trainer.checkpoint_callbacks]
        kept = [path for path in paths if path and Path(path).is_file()]  # one is named before it is written
        raise UserError(
            f"the weights are not finite after step {trainer.global_step}: try a lower optimizer.lr"
            f" or trainer.precision=32-true{self._cause(trainer)}"
            + (f"; sound weights from before are in {' and '.join(kept)}" if kept else "")
        )

    def _cause(self, trainer: L.Trainer) -> str:
        """The first batch whose loss was not finite, over all ranks, in words."""
        bad = next(((step, index.tolist()) for step, loss, index in self._since if not loss.isfinite()), None)
        shards = [shard for shard in gather_objects(bad) if shard is not None]
        if not shards:
            return ""
        first = min(step for step, _ in shards)
        images = [i for step, indices in shards if step == first for i in indices]
        dataset = getattr(trainer.train_dataloader, "dataset", None)
        names = [dataset.samples.name(i) if isinstance(dataset, TrainSet) else str(i) for i in images]
        return f"; the loss was not finite first in step {first}, with the images {', '.join(names)}"
