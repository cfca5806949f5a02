"""A detector's answers for the images of a split: maps computed once, polygons and figures for any thresholds."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import shapely
import torch

from ocr.console.resident import SLIDERS
from ocr.data.datamodule import DetectionData
from ocr.data.datasets import EvalSet
from ocr.errors import UserError
from ocr.geometry.offsets import short_side
from ocr.jobs.tune import write_with_pipeline
from ocr.metrics.faults import FALSE, MISSED, kinds
from ocr.metrics.hmean import Hmean
from ocr.metrics.matching import ComparedImage, compare, sample_scores, scores
from ocr.metrics.protocol import EvaluationProtocol
from ocr.models.postprocess.db import Candidates, find_candidates, to_image, unclip
from ocr.pipeline import PostProcess
from ocr.training.data_record import DataRecord, TrainingOverlap, read_record
from ocr.training.module import DetectionModule
from ocr.types import Detections, Truth
from ocr.utils.machine import cores

LEVELS = 65535  # of a probability on disk
MAX_IMAGES = 1000  # of a split: a map is some 2 MB
SAMPLE_IMAGES = 100  # images that figures are computed on while a threshold moves
ADVANCE_SECONDS = 1.0  # of the network per question, so that others have their turn
THUMB_SIDE, PHOTO_SIDE = 360, 4096  # pixels of the longer side
MAP_COLOUR = (0, 150, 90)  # RGB, unlike those of the outlines


@dataclass
class Seen:
    """An image that the network has seen.

    Attributes:
        index: in the data set.
        name: of the file.
        size: (width, height), pixels.
        truth: its labels.
        map: file of the probability map of its area, uint16 (h, w) in steps of 1 / :data:`LEVELS`.
        candidates: kernels of the newest threshold, with it.
    """

    index: int
    name: str
    size: tuple[int, int]
    truth: Truth
    map: Path
    candidates: tuple[float, Candidates] | None = None

    def probability(self) -> np.ndarray:
        """float32 (h, w)."""
        return np.load(self.map, mmap_mode="r").astype(np.float32) / LEVELS


class SplitPredictions:
    """Predictions of a detector on a split, in an order that is always the same, the sample first.

    Its methods are what the page Look asks; thresholds that ``sliders`` lack are the stored ones.

    Args:
        checkpoint: file of the detector.
        module: the detector.
        data: the split, read.
        overlap: what its images are to the checkpoint.
        protocols: the evaluation protocols by name.
        folder: for pictures.
        device: of the network.
    """

    def __init__(
        self,
        checkpoint: Path,
        module: DetectionModule,
        data: DetectionData,
        overlap: TrainingOverlap,
        protocols: Mapping[str, EvaluationProtocol],
        folder: Path,
        device: torch.device,
    ) -> None:
        self.checkpoint, self.module, self.data = checkpoint, module.to(device).eval(), data
        self.overlap, self.protocols, self.folder, self.device = overlap, protocols, folder, device
        self.images = EvalSet(data.sources[overlap.split], module.pipeline)
        self.order = np.random.default_rng(0).permutation(len(self.images)).tolist()[:MAX_IMAGES]
        self.seen: dict[int, Seen] = {}  # by index, in that order
        self.generation = time.time_ns()  # a page that knows another one has to begin again
        self.looked_at = 0  # of the order: what cannot be decoded is left out
        self._pass: tuple[PostProcess, int, dict[str, np.ndarray]] | None = None

    def _post(self, sliders: Mapping[str, float]) -> PostProcess:
        return replace(self.module.pipeline.postprocess, **sliders)  # type: ignore[arg-type]

    def advance(self, images: int) -> dict[str, Any]:
        """Show the network more images, for about a second, until it has been shown so many; see :meth:`described`."""
        began = time.perf_counter()
        while self.looked_at < min(images, len(self.order)) and time.perf_counter() - began < ADVANCE_SECONDS:
            index = self.order[self.looked_at]
            self.looked_at += 1
            item = self.images[index]
            if item is None:
                continue
            resize = self.module.pipeline.resize
            width, height = resize.content_size(*item["size"])
            [probability] = self.module.probability_maps(item["image"][None].to(self.device))
            levels = self.folder / f"map_{index}.npy"
            np.save(levels, np.rint(probability[:height, :width] * LEVELS).astype(np.uint16))
            self.seen[index] = Seen(index, item["name"], item["size"], item["truth"], levels)
            self._write(f"thumb_{index}.jpg", item["image"].numpy()[:height, :width], THUMB_SIDE)
        return self.described()

    def compared(self, seen: Seen, post: PostProcess) -> ComparedImage:
        """Polygons of an image by the thresholds, beside its labels."""
        width, height = self.module.pipeline.resize.content_size(*seen.size)
        if seen.candidates is None or seen.candidates[0] != post.thresh:
            candidates = find_candidates(seen.probability(), post.thresh, post.min_size, post.max_candidates)
            seen.candidates = post.thresh, candidates
        candidates = seen.candidates[1]
        candidates = candidates.where(candidates.scores >= post.box_thresh)
        polygons, kept = unclip(candidates, post)
        polygons = to_image(polygons, (width, height), seen.size)
        scores = candidates.scores[kept]
        order = np.argsort(-scores, kind="stable")  # matches depend on it
        detections = Detections([polygons[k] for k in order], scores[order].astype(np.float32))
        return compare(detections, seen.truth)

    def figures(self, sliders: Mapping[str, float], whole: bool = False) -> dict[str, Any]:
        """``precision``, ``recall`` and ``hmean`` at IoU 0.5 of the sample or of all that was seen; a row per image.

        No scores where no image was seen yet.

        Raises:
            UserError: a threshold is out of its range; of the other methods, too.
        """
        began, post = time.perf_counter(), self._post(sliders)
        indices = self.order if whole else self.order[:SAMPLE_IMAGES]
        images = [self.seen[index] for index in indices if index in self.seen]
        with ThreadPoolExecutor(cores()) as pool:
            compared = [*pool.map(lambda seen: self.compared(seen, post), images)]
        rows = [self._row(seen, image) for seen, image in zip(images, compared)]
        matched, detected, texts = (sum(row[key] for row in rows) for key in ("matched", "detected", "texts"))
        seconds = time.perf_counter() - began
        answer = {"images": len(rows), "seconds": seconds, "rows": rows, "generation": self.generation}
        return answer | scores(matched, detected, matched, texts) if rows else answer

    def _row(self, seen: Seen, image: ComparedImage) -> dict[str, Any]:
        """Figures of an image; ``missed`` as (kind, height at network size), ``false`` as (kind, score)."""
        matched, detected, texts = map(int, Hmean().count(image))
        of_texts, of_detections = kinds(image)
        heights, certain = self._heights(seen, image), image.detections.scores
        return {
            "index": seen.index, "name": seen.name, "texts": texts, "matched": matched, "detected": detected,
            **sample_scores(matched, detected, texts),
            "missed": [(kind, round(float(h), 1)) for kind, h in zip(of_texts, heights) if kind in MISSED],
            "false": [(kind, round(float(score), 3)) for kind, score in zip(of_detections, certain) if kind in FALSE],
        }  # fmt: skip

    def _heights(self, seen: Seen, image: ComparedImage) -> np.ndarray:
        """Shorter side of each text in pixels of the network's input."""
        shapes = image.pairs.truths
        return short_side(shapely.area(shapes), shapely.length(shapes)) * self.module.pipeline.resize.scale(*seen.size)

    def polygons(self, sliders: Mapping[str, float], indices: Sequence[int]) -> list[dict[str, Any]]:
        """Texts and detections of some images, with their kinds."""
        post = self._post(sliders)
        return [self._drawn(self.seen[index], post) for index in indices if index in self.seen]

    def _drawn(self, seen: Seen, post: PostProcess) -> dict[str, Any]:
        image = self.compared(seen, post)
        of_texts, of_detections = kinds(image)
        strings = image.truth.texts or [""] * len(of_texts)
        texts = [
            {"points": _points(polygon), "kind": kind, "text": string, "height": round(float(height), 1)}
            for polygon, kind, string, height in zip(
                image.truth.polygons, of_texts, strings, self._heights(seen, image)
            )
        ]
        detections = [
            {"points": _points(polygon), "kind": kind, "score": round(float(score), 3)}
            for polygon, kind, score in zip(image.detections.polygons, of_detections, image.detections.scores)
        ]
        return {"index": seen.index, "name": seen.name, "size": seen.size, "texts": texts,
                "detections": detections}  # fmt: skip

    def picture(self, index: int, layer: str) -> str:
        """File of a picture: ``thumb``, ``photo`` or ``map``.

        Raises:
            UserError: the image was not seen.
        """
        if index not in self.seen:
            raise UserError("there is no such picture")
        file = self.folder / f"{layer}_{index}.{'png' if layer == 'map' else 'jpg'}"
        if file.is_file():
            return str(file)
        if layer == "map":
            probability = self.seen[index].probability()
            colour = np.full((*probability.shape, 4), (*MAP_COLOUR[::-1], 0), np.uint8)
            colour[..., 3] = np.rint(probability * 255)
            file.write_bytes(cv2.imencode(".png", colour)[1].tobytes())
        else:
            self._write(file.name, self.images.samples.load(index)[0], PHOTO_SIDE)
        return str(file)

    def _write(self, name: str, pixels: np.ndarray, side: int) -> None:
        """A JPEG of pixels, uint8 (H, W, 3) RGB, shrunk to a longer side where that is shorter."""
        scale = min(1.0, side / max(pixels.shape[:2]))
        size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if scale < 1 else pixels
        jpeg = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1]
        (self.folder / name).write_bytes(jpeg.tobytes())

    def evaluate(self, sliders: Mapping[str, float], restart: bool) -> dict[str, Any]:
        """All protocols on all images, for about a second at a time: ``done``, and ``scores`` once that is all."""
        began, post, images = time.perf_counter(), self._post(sliders), [*self.seen.values()]
        if restart or self._pass is None or self._pass[0] != post:
            self._pass = post, 0, {name: np.zeros(protocol.size) for name, protocol in self.protocols.items()}
        post, done, totals = self._pass
        while done < len(images) and time.perf_counter() - began < ADVANCE_SECONDS:
            image = self.compared(images[done], post)
            for name, protocol in self.protocols.items():
                totals[name] += protocol.count(image)
            done += 1
        self._pass = post, done, totals
        answer: dict[str, Any] = {"done": done, "images": len(images)}
        if done == len(images) and self.looked_at == len(self.order):
            answer["scores"] = {
                figure: value
                for name, protocol in self.protocols.items()
                for figure, value in protocol.scores(totals[name]).items()
            }
        return answer

    def keep(self, sliders: Mapping[str, float]) -> str:
        """Write the checkpoint again with these thresholds, beside it; its file.

        All images of the split count as ones that its thresholds were chosen on.

        Raises:
            UserError: the sample was not seen yet.
        """
        if self.looked_at < min(SAMPLE_IMAGES, len(self.order)) or not self.seen:
            raise UserError("wait until the sample was seen: thresholds are kept with their figure")
        pipeline = replace(self.module.pipeline, postprocess=self._post(sliders))
        split, figures = self.overlap.split, self.figures(sliders)
        images = self.data.identities(split)
        record = read_record(self.checkpoint) or DataRecord.of(self.data, split, private=True)
        said = {"by": "hand", "split": split, "images": len(images),
                "sample": {name: figures[name] for name in ("precision", "recall", "hmean", "images")}}  # fmt: skip
        name = f"kept_{time.strftime('%Y-%m-%d_%H-%M-%S')}_{secrets.token_hex(2)}.ckpt"
        target = self.checkpoint.with_name(name)
        write_with_pipeline(self.checkpoint, self.module, pipeline, said, target, record.with_seen({"val": images}))
        return str(target)

    def described(self) -> dict[str, Any]:
        """Facts about the split and the detector, for the page."""
        post = self.module.pipeline.postprocess
        return {
            "images": len(self.order), "left_out": len(self.images) - len(self.order),
            "done": self.looked_at, "seen": len(self.seen),
            "sample": min(SAMPLE_IMAGES, len(self.order)), "generation": self.generation,
            "note": self.overlap.note or "", "unclip": post.unclip,
            "stored": {name: getattr(post, name) for name in SLIDERS},
        }  # fmt: skip


def _points(polygon: np.ndarray) -> list[list[float]]:
    return [[round(float(x), 1), round(float(y), 1)] for x, y in polygon]
