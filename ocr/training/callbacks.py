"""Callbacks of training and testing."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import cv2
import lightning as L
import numpy as np
import torch.distributed
from torch.nn.utils import get_total_norm

from ocr.data.images import decode
from ocr.errors import UserError
from ocr.tracking.batch_images import FOUND
from ocr.types import Detections

log = logging.getLogger(__name__)


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


def prediction_line(name: str, size: tuple[int, int], detections: Detections) -> str:
    """One line of ``predictions.jsonl``: coordinates to 0.01 pixel, scores to 1e-4."""
    return json.dumps(
        {
            "image": name,
            "width": size[0],
            "height": size[1],
            "polygons": [np.round(p.astype(np.float64), 2).tolist() for p in detections.polygons],
            "scores": np.round(detections.scores.astype(np.float64), 4).tolist(),
        },
        ensure_ascii=False,
    )


def draw(image: np.ndarray, detections: Detections) -> np.ndarray:
    """Image uint8 (H, W, 3) RGB with the outlines of the detections drawn on a copy."""
    image = image.copy()
    width = max(1, round(max(image.shape) / 1000))
    for polygon in detections.polygons:
        cv2.polylines(image, [np.round(polygon - 0.5).astype(np.int32)], True, FOUND, width, cv2.LINE_AA)
    return image


class PredictionWriter(L.Callback):
    """Writes ``predictions.jsonl`` while testing or predicting, in the order of the data, from all ranks.

    Args:
        folder: where the file goes.
        overlays: at most this many pictures with the polygons drawn go to ``overlays/``; -1 for all.
    """

    def __init__(self, folder: str | Path, overlays: int = 0) -> None:
        self.folder, self.overlays = Path(folder), overlays
        self.images = self.instances = 0
        self._lines: list[tuple[int, str]] = []

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not outputs:
            return
        parts = (batch[key] for key in ("indices", "names", "sizes", "images"))
        for index, name, size, image, found in zip(*parts, outputs["detections"]):
            self._lines.append((index, prediction_line(name, size, found)))
            self.instances += len(found)
            if self.overlays < 0 or len(self._lines) <= self.overlays:
                self._draw(index, name, image, size, found, pl_module)

    on_predict_batch_end = on_test_batch_end

    def _draw(
        self, index: int, name: str, image: Any, size: tuple[int, int], found: Detections, pl_module: Any
    ) -> None:
        path = Path(name)
        if path.is_file():
            picture = decode(path)
        else:  # drawn data: the network's input, brought back to the original size
            width, height = pl_module.pipeline.resize.content_size(*size)
            picture = cv2.resize(image[:height, :width].cpu().numpy(), size)
        out = self.folder / "overlays"
        out.mkdir(parents=True, exist_ok=True)
        target = out / f"{index + 1:05d}_{path.stem}.jpg"
        cv2.imwrite(str(target), cv2.cvtColor(draw(picture, found), cv2.COLOR_RGB2BGR))

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        shards = [self._lines]
        if trainer.world_size > 1:
            shards = [[] for _ in range(trainer.world_size)]
            torch.distributed.all_gather_object(shards, self._lines)
        lines = [line for _, line in sorted(line for shard in shards for line in shard)]
        self.images = len(lines)
        if lines and not self.instances and trainer.world_size == 1:
            log.warning(
                "no text was found in any of %d image(s): an untrained checkpoint, or thresholds too high?", self.images
            )
        if trainer.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "predictions.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")

    on_predict_epoch_end = on_test_epoch_end
