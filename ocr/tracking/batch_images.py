"""Pictures of the validation batches that were read worst, for error analysis in W&B."""

from __future__ import annotations

from typing import Any

import cv2
import lightning as L
import numpy as np
import wandb

from ocr.errors import UserError

FOUND, MISSED, FALSE = (0, 114, 178), (230, 159, 0), (204, 121, 167)  # Okabe and Ito 2008: blue, orange, purple


class ProblemBatches(L.Callback):
    """Logs validation batches whose recall is below a threshold, the worst first.

    A batch ``idx`` gives ``problematic_batch_{idx}_images``, ``_count``, ``_recall``, ``_precision`` and ``_hmean``.
    Found text is drawn blue, missed text orange, false detections purple.

    Args:
        recall_threshold: batches below this recall are logged, 0..1.
        max_batches: a validation pass logs at most this many.
        max_side: pictures are shrunk to this many pixels.
    """

    def __init__(self, recall_threshold: float, max_batches: int, max_side: int) -> None:
        if not 0 <= recall_threshold <= 1:
            raise UserError(f"logger.per_batch_image_logging.recall_threshold must lie in 0..1, got {recall_threshold}")
        self.recall_threshold, self.max_batches, self.max_side = recall_threshold, max_batches, max_side
        self._worst: list[tuple[float, int, dict[str, Any]]] = []

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._worst = []

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if not outputs or wandb.run is None or trainer.sanity_checking:
            return
        scores = outputs["scores"]
        if scores["recall"] >= self.recall_threshold:
            return
        if len(self._worst) == self.max_batches and self._worst and scores["recall"] >= self._worst[-1][0]:
            return
        pictures = [
            self._picture(image, size, truth, found, matched, pl_module)
            for image, size, truth, found, matched in zip(
                batch["images"], batch["sizes"], batch["truths"], outputs["detections"], outputs["matches"], strict=True
            )
        ]
        self._worst.append((scores["recall"], batch_idx, {"pictures": pictures, **scores}))
        self._worst = sorted(self._worst, key=lambda entry: entry[:2])[: self.max_batches]

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if wandb.run is None or not self._worst:
            return
        values: dict[str, Any] = {"trainer/global_step": trainer.global_step}
        for recall, idx, entry in self._worst:
            caption = f"batch {idx}, recall {recall:.3f}"
            key = f"problematic_batch_{idx}"
            values[f"{key}_images"] = [wandb.Image(p, caption=caption, file_type="jpg") for p in entry["pictures"]]
            values[f"{key}_count"] = len(entry["pictures"])
            for name in ("recall", "precision", "hmean"):
                values[f"{key}_{name}"] = entry[name]
        wandb.run.log(values)
        self._worst = []

    def _picture(
        self, image: Any, size: tuple[int, int], truth: Any, found: Any, matched: Any, module: Any
    ) -> np.ndarray:
        """The network's input (already loaded) with the polygons drawn, uint8 (H, W, 3) RGB."""
        width, height = module.pipeline.resize.content_size(*size)
        shrink = min(1.0, self.max_side / max(width, height))
        canvas = image[:height, :width].cpu().numpy()
        canvas = cv2.resize(canvas, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        scale = np.array([canvas.shape[1] / size[0], canvas.shape[0] / size[1]])
        missed = [
            p
            for p, d, ignored in zip(truth.polygons, matched.truth, truth.ignore, strict=True)
            if d < 0 and not ignored
        ]
        hits = [p for p, g in zip(found.polygons, matched.detection, strict=True) if g >= 0]
        false = [
            p
            for p, g, free in zip(found.polygons, matched.detection, matched.dont_care, strict=True)
            if g < 0 and not free
        ]
        for polygons, colour in ((hits, FOUND), (missed, MISSED), (false, FALSE)):
            outlines = [np.round(p * scale - 0.5).astype(np.int32) for p in polygons]
            cv2.polylines(canvas, outlines, True, colour, 1, cv2.LINE_AA)
        return canvas
