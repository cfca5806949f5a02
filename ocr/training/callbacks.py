"""Callbacks of training and testing."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import lightning as L
import numpy as np
import torch.distributed
from lightning.pytorch.callbacks import ModelCheckpoint

from ocr.data.images import decode
from ocr.errors import UserError
from ocr.tracking.batch_images import FOUND
from ocr.tracking.run import Tracking
from ocr.tracking.secrets import Redactor
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


class CarryBest(L.Callback):
    """A resumed run starts with the stopped run's best checkpoint as its own.

    Lightning forgets the best score when the folder changes, so the first validation after a resume, however bad,
    would count as the best.

    Args:
        folder: of the stopped run's checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        for callback in trainer.checkpoint_callbacks:
            state = checkpoint["callbacks"].get(callback.state_key)
            if not isinstance(callback, ModelCheckpoint) or state is None or callback.dirpath is None:
                continue
            name = Path(state["best_model_path"]).name
            old, new = self.folder / name, Path(callback.dirpath, name)
            if callback.monitor is None or not name or not old.is_file():
                continue
            if trainer.is_global_zero and not new.exists():
                new.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(old, new)
            score = state["best_model_score"]
            state |= {"dirpath": callback.dirpath, "best_model_path": str(new), "kth_best_model_path": str(new),
                      "best_k_models": {str(new): score}, "kth_value": score}  # fmt: skip


class CleanCheckpoints(L.Callback):
    """Checkpoints say which W&B run made them, and hold no secrets.

    Args:
        redactor: cleans every text in a checkpoint.
        origin: plain facts about the run, stored under ``tracking``.
    """

    def __init__(self, redactor: Redactor, origin: Mapping[str, Any]) -> None:
        self.redactor, self.origin = redactor, dict(origin)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["tracking"] = self.origin
        for key in ("hyper_parameters", "callbacks", "tracking"):
            if key in checkpoint:
                checkpoint[key] = self.redactor.plain(checkpoint[key])


class CheckpointArtifacts(L.Callback):
    """Uploads the run's checkpoints: best and last when the job ends, on request each new best one before that.

    Args:
        tracking: the W&B run.
        monitor: the metric that chooses the best.
        metadata: recorded with every version.
    """

    def __init__(self, tracking: Tracking, monitor: str, metadata: Mapping[str, Any]) -> None:
        self.run, self.artifacts = tracking.run, tracking.artifacts
        self.monitor, self.metadata = monitor, dict(metadata)
        self.each_best = tracking.settings.artifacts.checkpoints == "best" and tracking.artifacts.online
        self._sent: float | None = None
        self._trainer: L.Trainer | None = None
        tracking.at_end(self._upload)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._trainer = trainer

    def _checkpoints(self) -> dict[str, tuple[Path, float | None]]:
        """Alias to file and value of the monitored metric."""
        found: dict[str, tuple[Path, float | None]] = {}
        for callback in self._trainer.checkpoint_callbacks if self._trainer else ():
            if isinstance(callback, ModelCheckpoint) and callback.best_model_path:
                newest = self._trainer.callback_metrics.get(self.monitor)
                score = callback.best_model_score if callback.monitor else newest
                alias = "best" if callback.monitor else "last"
                found[alias] = Path(callback.best_model_path), None if score is None else float(score)
        return found

    def _facts(self, score: float | None) -> dict[str, Any]:
        trainer = self._trainer
        assert trainer is not None
        facts = {"run_name": self.run.name, "metric": self.monitor, "score": score}
        return self.metadata | facts | {"epochs": trainer.current_epoch, "steps": trainer.global_step}

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self.each_best:
            return
        path, score = self._checkpoints().get("best", (None, None))
        if path is not None and score != self._sent and path.is_file():
            self._sent = score
            self.artifacts.checkpoint(path, ["best"], self._facts(score), final=False)

    def _upload(self) -> None:
        for alias, (path, score) in self._checkpoints().items():
            if path.is_file():
                self.artifacts.checkpoint(path, [alias], self._facts(score), final=True)


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
        self._lines: list[str] = []

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
        for name, size, image, found in zip(batch["names"], batch["sizes"], batch["images"], outputs["detections"]):
            self._lines.append(prediction_line(name, size, found))
            self.instances += len(found)
            if self.overlays < 0 or len(self._lines) <= self.overlays:
                self._draw(name, image, size, found, pl_module)

    on_predict_batch_end = on_test_batch_end

    def _draw(self, name: str, image: Any, size: tuple[int, int], found: Detections, pl_module: Any) -> None:
        path = Path(name)
        if path.is_file():
            picture = decode(path)
        else:  # drawn data: the network's input, brought back to the original size
            width, height = pl_module.pipeline.resize.content_size(*size)
            picture = cv2.resize(image[:height, :width].cpu().numpy(), size)
        out = self.folder / "overlays"
        out.mkdir(parents=True, exist_ok=True)
        target = out / f"{len(self._lines):05d}_{path.stem}.jpg"
        cv2.imwrite(str(target), cv2.cvtColor(draw(picture, found), cv2.COLOR_RGB2BGR))

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        shards = [self._lines]
        if trainer.world_size > 1:
            shards = [[] for _ in range(trainer.world_size)]
            torch.distributed.all_gather_object(shards, self._lines)
        longest = max(map(len, shards))
        lines = [shard[k] for k in range(longest) for shard in shards if k < len(shard)]
        self.images = len(lines)
        if lines and not self.instances and trainer.world_size == 1:
            log.warning(
                "no text was found in any of %d image(s): an untrained checkpoint, or thresholds too high?", self.images
            )
        if trainer.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "predictions.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")

    on_predict_epoch_end = on_test_epoch_end
