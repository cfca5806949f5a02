"""Images that the network still reads badly come up more often."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.distributed

from ocr.data.datasets import EpochSampler
from ocr.data.targets.maps import SHRINK_MAP, SHRINK_MASK
from ocr.errors import UserError


def difficulty(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """1 - 2 |P n T| / (|P| + |T|) of the pixels above probability 0.5, for each image, float32 (B,), 0..1.

    Args:
        logits: float (B, 1, H, W).
        targets: uint8 (B, 4, H, W), see :class:`ocr.data.targets.maps.TargetMaker`.
    """
    seen = targets[:, SHRINK_MASK] > 0
    found, wanted = (logits.squeeze(1) > 0) & seen, (targets[:, SHRINK_MAP] > 0) & seen
    overlap = (found & wanted).sum((1, 2)).float()
    total = found.sum((1, 2)) + wanted.sum((1, 2))
    return torch.where(total > 0, 1 - 2 * overlap / total.clamp(min=1), 0.0)


class HardExamples(L.Callback):
    """After each epoch, tells the sampler which images were read badly.

    Args:
        share: of an epoch's samples, drawn in proportion to difficulty, 0 <= share <= 1; the others come as ever.
        momentum: share of the old difficulty of an image that is kept when it is seen again.
    """

    def __init__(self, share: float, momentum: float = 0.5) -> None:
        for name, value in (("share", share), ("momentum", momentum)):
            if not 0 <= value <= 1:
                raise UserError(f"callbacks.hard_examples.{name} must lie in 0..1, got {value}")
        self.share, self.momentum = share, momentum
        self.known: dict[int, float] = {}
        self._seen: list[tuple[int, float]] = []

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        values = difficulty(outputs["logits"], batch["targets"])
        self._seen += zip(batch["index"].tolist(), values.tolist())

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._seen.clear()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        shards = [self._seen]
        if trainer.world_size > 1:
            shards = [[] for _ in range(trainer.world_size)]
            torch.distributed.all_gather_object(shards, self._seen)
        found: dict[int, list[float]] = defaultdict(list)
        for index, value in (pair for shard in shards for pair in shard):
            found[index].append(value)
        for index, values in found.items():
            new = float(np.mean(values))
            self.known[index] = self.momentum * self.known.get(index, new) + (1 - self.momentum) * new
        self._tell(trainer)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._tell(trainer)  # what a resumed run knew

    def _tell(self, trainer: L.Trainer) -> None:
        sampler = getattr(trainer.train_dataloader, "sampler", None)
        if isinstance(sampler, EpochSampler) and self.known:
            sampler.favour(self.known, self.share)

    def state_dict(self) -> dict[str, Any]:
        return {"known": dict(self.known)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.known = dict(state_dict["known"])
