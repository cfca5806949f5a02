"""A detector's answers for the images of a split: maps computed once, polygons and figures for any thresholds."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import shapely
import torch

from ocr.console.resident import SLIDERS
from ocr.data.datamodule import DetectionData
from ocr.data.datasets import EvalSet
from ocr.geometry.offsets import short_side
from ocr.metrics.faults import kinds
from ocr.metrics.hmean import Hmean
from ocr.metrics.matching import ComparedImage, compare, sample_scores
from ocr.metrics.protocol import EvaluationProtocol
from ocr.models.postprocess.db import Candidates, find_candidates, to_image, unclip
from ocr.pipeline import PostProcess
from ocr.training.data_record import TrainingOverlap
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

    Args:
        module: the detector.
        data: the split, read.
        overlap: what its images are to the checkpoint.
        protocols: the evaluation protocols by name.
        folder: for pictures.
        device: of the network.
    """

    def __init__(
        self,
        module: DetectionModule,
        data: DetectionData,
        overlap: TrainingOverlap,
        protocols: Mapping[str, EvaluationProtocol],
        folder: Path,
        device: torch.device,
    ) -> None:
        self.module, self.data, self.overlap, self.protocols = module.to(device).eval(), data, overlap, protocols
        self.folder, self.device = folder, device
        self.images = EvalSet(data.sources[overlap.split], module.pipeline)
        self.order = np.random.default_rng(0).permutation(len(self.images)).tolist()[:MAX_IMAGES]
        self.seen: list[Seen] = []
        self.generation = time.time_ns()  # a page that knows another one has to begin again
        self.looked_at = 0  # of the order: what cannot be decoded is left out
        self._pass: tuple[PostProcess, int, dict[str, np.ndarray]] | None = None

    @property
    def sample(self) -> list[Seen]:
        """Of the first :data:`SAMPLE_IMAGES` images those that were seen."""
        first = set(self.order[:SAMPLE_IMAGES])
        return [seen for seen in self.seen[:SAMPLE_IMAGES] if seen.index in first]

    def post(self, sliders: Mapping[str, float]) -> PostProcess:
        """The stored post-processing with other thresholds.

        Raises:
            UserError: one is out of its range.
        """
        changed: dict[str, Any] = {name: float(value) for name, value in sliders.items() if name in SLIDERS}
        return replace(self.module.pipeline.postprocess, **changed)

    def advance(self, images: int) -> None:
        """Show the network more images, for about a second, until it has been shown so many."""
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
            self.seen.append(Seen(index, item["name"], item["size"], item["truth"], levels))
            self._write(f"thumb_{index}.jpg", item["image"].numpy()[:height, :width], THUMB_SIDE)

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

    def figures(self, post: PostProcess, whole: bool = False) -> dict[str, Any]:
        """``precision``, ``recall`` and ``hmean`` at IoU 0.5 of the sample or of all that was seen; a row per image.

        No scores where no image was seen yet.
        """
        began = time.perf_counter()
        images = self.seen if whole else self.sample
        with ThreadPoolExecutor(cores()) as pool:
            compared = [*pool.map(lambda seen: self.compared(seen, post), images)]
        counts = sum((Hmean().count(image) for image in compared), np.zeros(Hmean.size))
        rows = [self._row(seen, image) for seen, image in zip(images, compared)]
        seconds = time.perf_counter() - began
        answer = {"images": len(compared), "seconds": seconds, "rows": rows, "generation": self.generation}
        return answer | Hmean().scores(counts) if compared else answer

    def _row(self, seen: Seen, image: ComparedImage) -> dict[str, Any]:
        """Figures of an image; ``missed`` as (kind, height at network size), ``false`` as (kind, score)."""
        matched, detected, texts = map(int, Hmean().count(image))
        of_texts, of_detections = kinds(image)
        heights, scores = self._heights(seen, image), image.detections.scores
        missed = [(kind, round(float(heights[k]), 1)) for k, kind in enumerate(of_texts) if image.match.truth[k] < 0]
        false = [(kind, round(float(scores[k]), 3)) for k, kind in enumerate(of_detections) if kind != "found"]
        return {
            "index": seen.index, "name": seen.name, "texts": texts, "matched": matched, "detected": detected,
            **sample_scores(matched, detected, texts),
            "missed": [m for m in missed if m[0] != "ignored"], "false": [f for f in false if f[0] != "ignored"],
        }  # fmt: skip

    def _heights(self, seen: Seen, image: ComparedImage) -> np.ndarray:
        """Shorter side of each text in pixels of the network's input."""
        shapes = image.pairs.truths
        return short_side(shapely.area(shapes), shapely.length(shapes)) * self.module.pipeline.resize.scale(*seen.size)

    def polygons(self, indices: Sequence[int], post: PostProcess) -> list[dict[str, Any]]:
        """Texts and detections of some images, with their kinds."""
        known = {seen.index: seen for seen in self.seen}
        return [self._drawn(known[index], post) for index in indices if index in known]

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

    def picture(self, index: int, layer: str) -> Path | None:
        """File of a picture: ``thumb``, ``photo`` or ``map``; None for an image that was not seen."""
        seen = next((seen for seen in self.seen if seen.index == index), None)
        if seen is None:
            return None
        file = self.folder / f"{layer}_{index}.{'png' if layer == 'map' else 'jpg'}"
        if file.is_file():
            return file
        if layer == "map":
            probability = seen.probability()
            colour = np.full((*probability.shape, 4), (*MAP_COLOUR[::-1], 0), np.uint8)
            colour[..., 3] = np.rint(probability * 255)
            file.write_bytes(cv2.imencode(".png", colour)[1].tobytes())
            return file
        return self._write(file.name, self.images.samples.load(index)[0], PHOTO_SIDE)

    def _write(self, name: str, pixels: np.ndarray, side: int) -> Path:
        """A JPEG of pixels, uint8 (H, W, 3) RGB, shrunk to a longer side where that is shorter."""
        scale = min(1.0, side / max(pixels.shape[:2]))
        size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if scale < 1 else pixels
        file = self.folder / name
        file.write_bytes(cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1].tobytes())
        return file

    def evaluate(self, post: PostProcess, restart: bool) -> dict[str, Any]:
        """All protocols on all images, for about a second at a time: ``done``, and ``scores`` once that is all."""
        began = time.perf_counter()
        if restart or self._pass is None or self._pass[0] != post:
            self._pass = post, 0, {name: np.zeros(protocol.size) for name, protocol in self.protocols.items()}
        post, done, totals = self._pass
        while done < len(self.seen) and time.perf_counter() - began < ADVANCE_SECONDS:
            image = self.compared(self.seen[done], post)
            for name, protocol in self.protocols.items():
                totals[name] += protocol.count(image)
            done += 1
        self._pass = post, done, totals
        answer: dict[str, Any] = {"done": done, "images": len(self.seen)}
        if done == len(self.seen) and self.looked_at == len(self.order):
            answer["scores"] = _flat(protocol.scores(totals[name]) for name, protocol in self.protocols.items())
        return answer

    def described(self) -> dict[str, Any]:
        """What the page says of the split and the detector."""
        post = self.module.pipeline.postprocess
        return {
            "images": len(self.order), "left_out": len(self.images) - len(self.order),
            "done": self.looked_at, "seen": len(self.seen),
            "sample": min(SAMPLE_IMAGES, len(self.order)), "generation": self.generation,
            "selected_on": self.overlap.selected_on, "note": self.overlap.note or "", "unclip": post.unclip,
            "stored": {name: value for name, value in asdict(post).items() if name in SLIDERS},
            "long_side": self.module.pipeline.resize.long_side,
        }  # fmt: skip


def _points(polygon: np.ndarray) -> list[list[float]]:
    return [[round(float(x), 1), round(float(y), 1)] for x, y in polygon]


def _flat(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    return {name: value for scores in parts for name, value in scores.items()}
