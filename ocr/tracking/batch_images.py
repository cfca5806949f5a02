"""Pictures of the worst batches, and a table of the worst images, for error analysis in W&B."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import cv2
import lightning as L
import numpy as np
import wandb

from ocr.drawing.polygons import draw_matches
from ocr.tracking.job import Job
from ocr.tracking.run import Tracking
from ocr.tracking.schema import PerBatchImages
from ocr.tracking.secrets import Redactor
from ocr.tracking.summary import STEP, log_table
from ocr.utils.distributed import gather_objects

TABLE = "worst_images"
COLUMNS = ["stage", "epoch", "batch", "image", "recall", "precision", "hmean", "texts", "matched", "missed", "false"]

_Batch = tuple[float, int, dict[str, Any], list[tuple[Any, ...]]]  # recall, index, figures, pictures with outlines


def image_callbacks(job: Job, tracking: Tracking | None, stage: str) -> list[L.Callback]:
    """Callbacks that log the worst images to W&B; on all ranks, the first of which has the run.

    Args:
        job: its logger settings switch them on.
        tracking: the W&B run, if this rank has it.
        stage: ``val`` or ``test``: whose batches.
    """
    settings = job.logger.per_batch_image_logging
    if not (job.logger.wandb.enabled and settings.enabled):
        return []
    callbacks: list[L.Callback] = [ProblemBatches(tracking.run if tracking else None, settings, job.redactor, stage)]
    if settings.table_rows:
        worst = WorstImages(settings.table_rows, job.redactor)
        if tracking is not None:
            tracking.at_end(lambda: worst.write_table(tracking.run))
        callbacks.append(worst)
    return callbacks


class ProblemBatches(L.Callback):
    """Logs batches whose recall is below a threshold, the worst first.

    A batch ``idx`` gives ``problematic_batch_{idx}_images``, ``_count``, ``_recall``, ``_precision`` and ``_hmean``.
    The pictures are the network's own input, which the batch still has: nothing is loaded again. What a pass spent on
    them, and how many batches its limits left out, are ``problematic_batches/seconds`` and ``/left_out``. Of several
    processes all have one of these, and batch ``idx`` is batch ``idx // n`` of rank ``idx % n``.

    Args:
        run: takes the pictures; None on ranks above 0.
        settings: threshold and limits.
        redactor: cleans image names.
        stage: ``val`` or ``test``: whose batches.
    """

    def __init__(self, run: wandb.Run | None, settings: PerBatchImages, redactor: Redactor, stage: str = "val") -> None:
        self.run, self.settings, self.redactor, self.stage = run, settings, redactor, stage
        self._reset()

    def _reset(self) -> None:
        self._worst: list[_Batch] = []
        self._seconds, self._below = 0.0, 0

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._reset()

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        limits = self.settings
        if _stage(trainer) != self.stage or not outputs or outputs["scores"]["recall"] >= limits.recall_threshold:
            return
        self._below += 1
        recall = outputs["scores"]["recall"]
        full = len(self._worst) >= limits.max_batches
        if self._seconds > limits.seconds or (full and (not self._worst or recall >= self._worst[-1][0])):
            return
        started = time.perf_counter()
        order = np.argsort([s["recall"] for s in outputs["image_scores"]], kind="stable")[: limits.max_images]
        kept = [
            (
                _shrunk(batch["images"][k], batch["sizes"][k], pl_module.pipeline.resize, limits.max_side),
                batch["sizes"][k], batch["truths"][k], outputs["detections"][k], outputs["matches"][k],
                f"{Path(batch['names'][k]).name}, recall {outputs['image_scores'][k]['recall']:.3f}",
            )
            for k in order
        ]  # fmt: skip
        figures = {"count": len(batch["images"]), **outputs["scores"]}
        self._worst.append((recall, _over_ranks(batch_idx, trainer), figures, kept))
        self._worst = sorted(self._worst, key=lambda entry: entry[:2])[: limits.max_batches]
        self._seconds += time.perf_counter() - started

    def _gather(self) -> None:
        """The worst batches of all ranks; only those that are logged are sent."""
        limit = self.settings.max_batches
        ranks = gather_objects(([batch[:2] for batch in self._worst], self._below, self._seconds))
        if len(ranks) == 1:
            return
        chosen = sorted(entry for ranked, _, _ in ranks for entry in ranked)[:limit]
        sent = gather_objects([_packed(batch) for batch in self._worst if batch[:2] in chosen])
        self._worst = sorted((_unpacked(batch) for part in sent for batch in part), key=lambda batch: batch[:2])
        self._below, self._seconds = sum(below for _, below, _ in ranks), max(seconds for _, _, seconds in ranks)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if _stage(trainer) != self.stage or trainer.sanity_checking:
            return
        self._gather()
        if not self._below or self.run is None:
            return
        values: dict[str, Any] = {STEP: trainer.global_step}
        logged = 0
        for recall, idx, scores, pictures in self._worst:
            started = time.perf_counter()
            if self._seconds > self.settings.seconds:
                break
            key, images = f"problematic_batch_{idx}", []
            for image, size, truth, detections, matched, label in pictures:
                scale = np.array([image.shape[1] / size[0], image.shape[0] / size[1]])
                caption = self.redactor.text(f"batch {idx}, recall {recall:.3f}: {label}")
                picture = draw_matches(image, scale, truth, detections, matched)
                images.append(wandb.Image(picture, caption=caption, file_type="jpg"))
            values[f"{key}_images"] = images
            values |= {f"{key}_{name}": scores[name] for name in ("count", "recall", "precision", "hmean")}
            logged += 1
            self._seconds += time.perf_counter() - started
        values |= {"problematic_batches/seconds": self._seconds, "problematic_batches/left_out": self._below - logged}
        self.run.log(values)
        self._reset()

    on_test_epoch_start = on_validation_epoch_start
    on_test_batch_end = on_validation_batch_end
    on_test_epoch_end = on_validation_epoch_end


class WorstImages(L.Callback):
    """Keeps the images of the newest validation or test pass that were read worst, at most ``rows`` of all ranks."""

    def __init__(self, rows: int, redactor: Redactor) -> None:
        self.rows, self.redactor = rows, redactor
        self._worst: list[tuple[Any, ...]] = []  # hmean, recall, batch, place in it, row of the table

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._worst = []

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if not outputs:
            return
        batch_idx = _over_ranks(batch_idx, trainer)
        for k, (name, score) in enumerate(zip(batch["names"], outputs["image_scores"])):
            missed, false = score["texts"] - score["matched"], score["detected"] - score["matched"]
            row = [_stage(trainer), trainer.current_epoch, batch_idx, Path(name).name, score["recall"],
                   score["precision"], score["hmean"], score["texts"], score["matched"], missed, false]  # fmt: skip
            self._worst.append((score["hmean"], score["recall"], batch_idx, k, row))
        self._worst = sorted(self._worst)[: self.rows]

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._worst = sorted(image for part in gather_objects(self._worst) for image in part)[: self.rows]

    on_test_epoch_start = on_validation_epoch_start
    on_test_batch_end = on_validation_batch_end
    on_test_epoch_end = on_validation_epoch_end

    def write_table(self, run: wandb.Run) -> None:
        """One table under the key ``worst_images``, the worst first."""
        if self._worst:
            log_table(run, TABLE, COLUMNS, self.redactor.plain([row for *_, row in self._worst]))


def _stage(trainer: L.Trainer) -> str:
    return "test" if trainer.testing else "val"


def _over_ranks(batch_idx: int, trainer: L.Trainer) -> int:
    """An index of its own for each batch of each rank."""
    return batch_idx * trainer.world_size + trainer.global_rank


def _packed(batch: _Batch) -> _Batch:
    """Encode its pictures as JPEG, to send them to another rank; cv2 takes red for blue in both directions."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, 95]
    return *batch[:3], [(cv2.imencode(".jpg", image, quality)[1], *more) for image, *more in batch[3]]


def _unpacked(batch: _Batch) -> _Batch:
    return *batch[:3], [(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), *more) for jpeg, *more in batch[3]]


def _shrunk(image: Any, size: tuple[int, int], resize: Any, longest: int) -> np.ndarray:
    """The content of a network input, uint8 (H, W, 3), its longer side at most ``longest`` pixels; a copy."""
    width, height = resize.content_size(*size)
    factor = min(1.0, longest / max(width, height))
    content = image[:height, :width].cpu().numpy()
    return (
        content.copy() if factor == 1 else cv2.resize(content, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    )
