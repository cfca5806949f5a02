"""A witness of the labels: a stock detector that never saw them, and where the two disagree.

What both see is left alone. Where the detector finds nothing at a label, or text without one, or two lines in one, or
a text of which the label is a part, one of them is wrong; the strongest doubts come first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import shapely
import torch
from torch.utils.data import DataLoader

from ocr.data.datasets import EvalSet, collate_eval
from ocr.data.sources.build import Source
from ocr.geometry.polygons import to_valid_shapely
from ocr.geometry.raster import fill
from ocr.geometry.rectangles import Rectangles
from ocr.models.postprocess.db import detect
from ocr.training.module import DetectionModule
from ocr.types import Detections, Truth

KINDS = {
    "label_without_ink": "the witness sees no text at this label, and its contrast is low",
    "ink_without_label": "the witness sees text that has no label",
    "merged": "the witness sees two lines in this label",
    "cut": "the witness sees text beyond the end of this label",
}
MIN_SCORE = 0.8  # score of a detection that is held against the labels
MAX_PROBABILITY = 0.3  # probability that is reached nowhere in a label: there is no text
MAX_CONTRAST_RATIO = 0.35  # of the usual contrast: witnesses miss a lone 1 or a colon, in black ink, too
MIN_CONTRAST = 100  # grey levels of print: the labels' own would be none where all of them lie on blank paper
MIN_HEIGHT_PIXELS = 8  # network pixels; of smaller text the witness is no judge
MAX_COVERED = 0.1  # of a detection, by labels: less is text without a label
MIN_INSIDE = 0.7  # of a detection's area within a label, or of a label's within a detection, that belong together
MIN_LINE = 0.5  # of a label's length that each of two stacked lines has, and of its height that their centres lie apart
SLACK_HEIGHTS = 0.35  # heights that a detection may reach beyond a label: each detector has its own margins
MIN_BEYOND = 0.2  # of a detection's area that lies further beyond


@dataclass(frozen=True)
class Doubt:
    """A place where label and witness disagree.

    Attributes:
        kind: a key of :data:`KINDS`.
        score: 0..1, how strong the evidence is.
        polygon: float32 (N, 2), of the label, or of the detection that has none, pixels of the image.
        label: index of the label among those of the image; -1 for text without one.
    """

    kind: str
    score: float
    polygon: np.ndarray
    label: int


@dataclass(frozen=True)
class Statement:
    """Doubts of the witness about one image.

    Attributes:
        image: its name.
        size: width, height, pixels.
        truth: its labels.
        doubts: the strongest first.
        not_judged: number of texts that are too small for the witness.
    """

    image: str
    size: tuple[int, int]
    truth: Truth
    doubts: list[Doubt]
    not_judged: int = 0


def ask_witness(
    module: DetectionModule, sources: Sequence[Source], device: torch.device | str, num_workers: int
) -> Iterator[Statement]:
    """Run the witness, a detector, on each labelled image and yield its doubts."""
    module = module.to(device).eval()
    loader = DataLoader(EvalSet(sources, module.pipeline), num_workers=num_workers, collate_fn=collate_eval)
    resize = module.pipeline.resize
    for batch in loader:
        for name, image, size, truth in zip(*(batch[key] for key in ("names", "images", "sizes", "truths"))):
            [probability] = module.probability_maps(image[None].to(device))
            scale = np.array(resize.content_size(*size)) / size
            detections = detect(np.ascontiguousarray(probability), size[0], size[1], module.pipeline)
            grey = cv2.cvtColor(image.numpy(), cv2.COLOR_RGB2GRAY)
            not_judged = int((~_legible(truth, scale) & ~np.asarray(truth.ignore, bool)).sum())
            yield Statement(name, size, truth, doubts(truth, detections, probability, grey, scale), not_judged)


def doubts(
    truth: Truth, detections: Detections, probability: np.ndarray, grey: np.ndarray, scale: np.ndarray
) -> list[Doubt]:
    """Find where labels and detections of one image disagree, the strongest first.

    Args:
        truth: labels, in pixels of the image.
        detections: of the witness, in the same.
        probability: float32 (H, W), its map.
        grey: uint8 (H, W), the image at the map's size.
        scale: float64 (2,), from pixels of the image to those of the map.
    """
    sure = [p for p, score in zip(detections.polygons, detections.scores.tolist()) if score >= MIN_SCORE]
    scores = [score for score in detections.scores.tolist() if score >= MIN_SCORE]
    labels, shapes = to_valid_shapely(truth.polygons), to_valid_shapely(sure)
    rectangles = Rectangles.of(truth.polygons)
    counted = np.flatnonzero(_legible(truth, scale) & ~np.asarray(truth.ignore, bool)).tolist()
    contrasts = np.array([_contrast(grey, polygon * scale) for polygon in truth.polygons])
    usual = max(float(np.median(contrasts)) if len(contrasts) else 0.0, MIN_CONTRAST)
    result = []
    for k in counted:
        polygon, contrast = truth.polygons[k], float(contrasts[k]) / usual
        if contrast >= MAX_CONTRAST_RATIO:
            continue
        seen = _inside(probability, polygon * scale)
        if seen.size and seen.max() < MAX_PROBABILITY:
            result.append(Doubt("label_without_ink", 1 - contrast, polygon, k))
    if len(sure):
        stacked = _stacked(labels, shapes, rectangles, scores)
        result += [Doubt("merged", stacked[k], truth.polygons[k], k) for k in counted if k in stacked]
        result += _unlabelled(truth, labels, shapes, sure, scores, rectangles, scale)
    return sorted(result, key=lambda doubt: -doubt.score)


def _legible(truth: Truth, scale: np.ndarray) -> np.ndarray:
    """Which texts are large enough for the witness, bool (M,)."""
    return 2 * Rectangles.of(truth.polygons).halves[:, 1] * float(scale.min()) >= MIN_HEIGHT_PIXELS


def _inside(values: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Values (K,) of a map (H, W) within a polygon (N, 2) in its pixels."""
    x0, y0 = np.maximum(np.floor(polygon.min(axis=0)), 0).astype(int).tolist()
    x1, y1 = np.ceil(polygon.max(axis=0)).astype(int).tolist()
    part = values[y0:y1, x0:x1]
    mask = np.zeros(part.shape, np.uint8)
    fill(mask, [polygon - (x0, y0)], 1)
    return part[mask > 0]


def _contrast(grey: np.ndarray, polygon: np.ndarray) -> float:
    """Grey levels between the lightest and the darkest pixels within a polygon, outliers left out."""
    inside = _inside(grey, polygon)
    return float(np.subtract(*np.percentile(inside, (98, 2)))) if inside.size else 0.0


def _stacked(
    labels: np.ndarray, shapes: np.ndarray, rectangles: Rectangles, scores: Sequence[float]
) -> dict[int, float]:
    """Labels with two long detections one below the other in them, and the lower score of the two."""
    stacked: dict[int, float] = {}
    detection, label = shapely.STRtree(labels).query(shapes, predicate="intersects")
    shared = shapely.area(shapely.intersection(shapes[detection], labels[label])) / shapely.area(shapes[detection])
    for k in np.unique(label[shared >= MIN_INSIDE]).tolist():
        inside = detection[(label == k) & (shared >= MIN_INSIDE)].tolist()
        if len(inside) < 2:
            continue
        spans = [_span(shapes[d], rectangles, k) for d in inside]
        length, height = 2 * rectangles.halves[k]
        for i, (along, across) in enumerate(spans):
            for j, (other_along, other_across) in enumerate(spans[:i]):
                both_long = min(np.ptp(along), np.ptp(other_along)) >= MIN_LINE * length
                apart = abs(across.mean() - other_across.mean()) >= MIN_LINE * height / 2
                overlap = min(across[1], other_across[1]) - max(across[0], other_across[0])
                if both_long and apart and overlap <= MIN_LINE * min(np.ptp(across), np.ptp(other_across)):
                    stacked[k] = max(stacked.get(k, 0.0), min(scores[inside[i]], scores[inside[j]]))
    return stacked


def _span(shape: shapely.Polygon, rectangles: Rectangles, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Extent of a shape along and across a rectangle, (least, greatest) each, from its centre."""
    points = (shapely.get_coordinates(shape) - rectangles.centres[k]) @ rectangles.axes[k].T
    along, across = np.stack([points.min(axis=0), points.max(axis=0)], axis=1)
    return along, across


def _unlabelled(
    truth: Truth, labels: np.ndarray, shapes: np.ndarray, polygons: Sequence[np.ndarray], scores: Sequence[float],
    rectangles: Rectangles, scale: np.ndarray,
) -> list[Doubt]:  # fmt: skip
    """Detections without a label, those as high as the labelled text first, and labels that end before their text."""
    heights = 2 * Rectangles.of(polygons).halves[:, 1]
    usual = float(np.median(2 * rectangles.halves[:, 1])) if len(labels) else float(np.median(heights))
    tree = shapely.STRtree(labels)
    result = []
    for d, (shape, score, height) in enumerate(zip(shapes, scores, heights.tolist())):
        if height * float(scale.min()) < MIN_HEIGHT_PIXELS:
            continue
        near = tree.query(shape.buffer(SLACK_HEIGHTS * height), predicate="intersects").tolist()
        covered = shapely.area(shapely.intersection(shape, shapely.union_all(labels[near]))) / shape.area
        if covered < MAX_COVERED:
            likeness = min(height, usual) / max(height, usual)  # a set may leave handwriting and stamps out on purpose
            result.append(Doubt("ink_without_label", score * (1 - covered) * likeness, polygons[d], -1))
            continue
        rest = shapely.difference(shape, shapely.union_all(shapely.buffer(labels[near], SLACK_HEIGHTS * height)))
        share = shapely.area(rest) / shape.area
        if share < MIN_BEYOND:
            continue
        within = shapely.area(shapely.intersection(shape, labels[near])) / shapely.area(labels[near])
        parts = [k for k, inside in zip(near, within.tolist()) if inside >= MIN_INSIDE and not truth.ignore[k]]
        if parts:
            nearest = min(parts, key=lambda k: shapely.distance(labels[k], rest))
            result.append(Doubt("cut", score * min(1.0, 0.5 + share), truth.polygons[nearest], nearest))
    return result


@dataclass(frozen=True)
class WitnessReport:
    """Doubts of the witness about a set: a statement per image."""

    statements: list[Statement]

    def ranked(self, per_image: int | None = None) -> list[tuple[Statement, Doubt]]:
        """All doubts, or the strongest few of each image, the strongest first; of equal ones the larger text."""
        every = [(statement, doubt) for statement in self.statements for doubt in statement.doubts[:per_image]]
        return sorted(every, key=lambda row: (-round(row[1].score, 2), -float(np.ptp(row[1].polygon, axis=0).prod())))

    def to_relabel(self) -> list[Statement]:
        """Rank the images with doubts, those with the most and strongest first."""
        doubtful = [statement for statement in self.statements if statement.doubts]
        return sorted(doubtful, key=lambda statement: -sum(doubt.score for doubt in statement.doubts))

    def counts(self) -> dict[str, int]:
        """Doubts by kind."""
        return dict(Counter(doubt.kind for statement in self.statements for doubt in statement.doubts).most_common())

    def not_judged(self) -> int:
        """Number of texts that are too small for the witness."""
        return sum(statement.not_judged for statement in self.statements)


def in_words(statement: Statement, doubt: Doubt) -> str:
    """A doubt: image, kind, place of its upper left corner, text, score."""
    text = repr(statement.truth.texts[doubt.label]) if doubt.label >= 0 else "no label"
    x, y = doubt.polygon.min(axis=0).round().astype(int).tolist()
    return f"{statement.image}: {doubt.kind} at {x},{y}: {text} ({doubt.score:.2f})"
