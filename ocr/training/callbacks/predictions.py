"""``predictions.jsonl``: a line for each image, written as soon as its image is done."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import cv2
import lightning as L
import numpy as np

from ocr.data.index.report import NOTES, Report
from ocr.data.sources.joined import Sources
from ocr.data.transforms.decode import UndecodableImage
from ocr.drawing.polygons import draw_detections
from ocr.types import Detections
from ocr.utils.distributed import gather_objects
from ocr.utils.files import write_atomic

log = logging.getLogger(__name__)
OVERLAYS_GLOB = "[0-9][0-9][0-9][0-9][0-9]_*.jpg"  # names that overlays have
STEM_BYTES = 200  # of an image's name that its overlay's has: with number and suffix that fits any file system


def prediction_line(name: str, size: tuple[int, int], detections: Detections) -> str:
    """One line of ``predictions.jsonl``: coordinates to 0.01 pixel, scores to 1e-4."""
    page = {"image": name, "width": size[0], "height": size[1]}
    if detections.orientation is not None:
        page["orientation"] = detections.orientation
    polygons = [np.round(p.astype(np.float64), 2).tolist() for p in detections.polygons]
    scores = np.round(detections.scores.astype(np.float64), 4).tolist()
    return json.dumps(page | {"polygons": polygons, "scores": scores}, ensure_ascii=False)


def append(path: Path, text: str) -> None:
    """Add text to a file, all of it or, where the disk is full, none."""
    data = encode(text)
    with path.open("ab", buffering=0) as file:
        end = file.tell()
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            file.truncate(end)
            raise


def encode(text: str) -> bytes:
    r"""UTF-8; bytes of a file name that are none become ``\udc..``, which JSON reads as the name again."""
    return text.encode("utf-8", "backslashreplace")


class PredictionWriter(L.Callback):
    """Writes ``predictions.jsonl`` while testing or predicting, a line as soon as its image is done.

    At the end the lines of all ranks are in the order of the data. Until then each rank has a file of its own.

    Args:
        folder: where the file goes.
        overlays: at most this many pictures with the polygons drawn go to ``overlays/``; -1 for all. Those that an
            earlier job has left there are removed.

    Attributes:
        images, instances, turned: counted, over all ranks once they are done; turned: those with most text not upright.
        notes: what is to be said of images that were read.
    """

    def __init__(self, folder: str | Path, overlays: int = 0) -> None:
        self.folder, self.overlays = Path(folder), overlays
        self.images = self.instances = self.turned = 0
        self.notes = Report()
        self._order: list[int] = []  # of the lines in this rank's file

    def _file(self, rank: int) -> Path:
        return self.folder / (f"predictions.rank{rank}.jsonl" if rank else "predictions.jsonl")

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            for picture in (self.folder / "overlays").glob(OVERLAYS_GLOB):
                picture.unlink()
        self.folder = trainer.strategy.broadcast(self.folder)  # ranks of other machines have none of their own
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file(trainer.global_rank).write_bytes(b"")  # not to be added to what an earlier job has found

    on_predict_start = on_test_start

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any, **__: Any
    ) -> None:
        if not outputs:
            return
        loader = trainer.predict_dataloaders if trainer.predicting else trainer.test_dataloaders
        assert loader is not None
        parts = (batch[key] for key in ("indices", "names", "sizes", "notes"))
        for index, name, size, notes, detections in zip(*parts, outputs["detections"]):
            append(self._file(trainer.global_rank), prediction_line(name, size, detections) + "\n")
            self._order.append(index)
            self.instances += len(detections)
            self.turned += bool(detections.orientation)
            for kind, detail in notes.items():
                self.notes.add(kind, name, detail)
            if self.overlays < 0 or len(self._order) <= self.overlays:
                self._draw(index, name, detections, loader.dataset.samples)

    on_predict_batch_end = on_test_batch_end

    def _draw(self, index: int, name: str, detections: Detections, samples: Sources) -> None:
        try:
            picture, _ = samples.load(index)
        except UndecodableImage as error:  # it has gone
            log.warning("no overlay: %s", error)
            return
        done, jpeg = cv2.imencode(".jpg", cv2.cvtColor(draw_detections(picture, detections), cv2.COLOR_RGB2BGR))
        if not done:
            log.warning("no overlay: %s is longer than a JPEG can be", name)
            return
        stem = os.fsencode(Path(name).stem)[:STEM_BYTES].decode(errors="ignore")
        out = self.folder / "overlays"
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{index + 1:05d}_{stem}.jpg").write_bytes(jpeg.tobytes())

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        path = self._file(trainer.global_rank)
        as_it_is = trainer.world_size == 1 and self._order == sorted(self._order)
        lines = [] if as_it_is else list(zip(self._order, _lines(path), strict=True))
        own = (lines, len(self._order), self.instances, self.turned, self.notes.to_dict())
        parts, images, instances, turned, notes = zip(*gather_objects(own))
        self.images, self.instances, self.turned, self.notes = sum(images), sum(instances), sum(turned), Report()
        for part in notes:
            self.notes.merge(part)
        if trainer.is_global_zero:
            if not as_it_is:
                ordered = sorted(line for part in parts for line in part)
                write_atomic(path, encode("".join(line for _, line in ordered)))
            self._say()
        trainer.strategy.barrier("predictions")
        if not trainer.is_global_zero:
            path.unlink(missing_ok=True)

    on_predict_epoch_end = on_test_epoch_end

    def _say(self) -> None:
        if self.images and not self.instances:
            log.warning(
                "no text was found in any of %d image(s): an untrained checkpoint, or thresholds too high?", self.images
            )
        for kind, count in self.notes.counts.most_common():
            log.warning("%d image(s) %s, e.g. %s", count, NOTES[kind], self.notes.examples[kind][0])


def _lines(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="\n") as file:  # a name may hold what else ends a line
        return list(file)
