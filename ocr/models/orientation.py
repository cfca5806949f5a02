"""Text that lies on its side or upside down, read upright. Receipts of one photo may each lie their own way.

A detector of lines finds next to nothing in text that lies on its side: fragments about as long as they are high. So
a page with enough of these is read once more, turned. PP-OCR's classifier of text lines then tells up from down. Each
text goes by what is found around it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ocr.models.text_direction import upside_down
from ocr.types import Detections

MIN_TEXTS = 6  # to be turned: a street scene with fewer stays as it is
MIN_TEXTS_OF_PAGE = 18  # the same where next to nothing is found as the page lies
MIN_ELONGATION = 3.3  # lengths over heights of all boxes: receipts have at least 3.9 upright, at most 2.7 on their side
MIN_FRAGMENTS = 3  # texts among narrow boxes: a part of the page looks turned
NEIGHBOUR_HEIGHTS = 6  # of a text: standard deviation of the weight that its neighbours have by their distance
VOTER_HEIGHTS = 18  # the same of the lines that vote on up and down, of which there are few
NARROW_ASPECT, WIDE_ASPECT = 1.5, 1.8  # widths over heights around a text: mostly 3 and more upright, 1 on its side
MIN_GAIN = 1.25  # times the aspect as it lies, for text to be taken as turned
MIN_VOTERS, TEXTS_PER_VOTER = 12, 6  # lines that vote on up and down: at least so many, one per so many texts
MIN_VOTE = 0.6  # mean probability of the lines around that a text is upside down

Reader = Callable[[np.ndarray, tuple[int, int]], Detections]


def read_upright(read: Reader, page: np.ndarray, size: tuple[int, int], detections: Detections) -> Detections:
    """Detections as if all text were upright; their ``orientation`` says how most of it lies.

    Args:
        read: text in a page and its original size, in the original's pixels.
        page: uint8 (H, W, 3), RGB, at network size, without padding.
        size: (width, height) of the original.
        detections: text in the page as it lies.

    Returns:
        Polygons in the original's pixels as it lies. The corners of quadrangles start at the text's own top left.
    """

    def reading(turns: int) -> Texts:
        return Texts.of(read(*_turned(page, size, turns)), size, turns)

    texts = Texts.of(detections, size, 0)
    if texts.in_fragments():
        texts = _wider(texts, reading(1))
    parts = []
    for turns in (0, 1):
        part = texts.where(texts.turns == turns)
        parts.append(part)
        if len(part) < MIN_TEXTS:
            continue
        wrong = _upside_down(*_turned(page, size, turns), part)
        if wrong.sum() >= MIN_TEXTS:
            again = reading(turns + 2)
            nearest = again.distances(texts).argmin(1)
            again = again.where(np.isin(nearest, np.flatnonzero(texts.turns == turns)[wrong]))
            if len(again) >= wrong.sum() / 2:
                parts[-1:] = [part.where(~wrong), again]
    return Texts.joined(parts).detections(size)


def _upside_down(page: np.ndarray, size: tuple[int, int], texts: Texts) -> np.ndarray:
    """Bool (M,), whether texts that were read in a page, as it was turned, stand on their head.

    Long lines all over the page are classified; a text goes by those around it.
    """
    lines = texts.where(_spread(texts))
    scale = np.array(page.shape[1::-1], np.float32) / size
    votes = upside_down(page, [polygon * scale for polygon in lines.polygons])
    return texts.mean(lines, votes, VOTER_HEIGHTS) > MIN_VOTE


@dataclass(frozen=True)
class Texts:
    """Text found in a page after quarter turns counter-clockwise.

    Attributes:
        polygons: float32 (N, 2) each, in the pixels of the page as it was turned.
        scores: float32 (M,).
        turns: int (M,), how often the page was turned.
        centres: float64 (M, 2), in the pixels of the page as it lies.
        sides: float64 (M, 2), width and height in the page as it was turned, along the box.
    """

    polygons: list[np.ndarray]
    scores: np.ndarray
    turns: np.ndarray
    centres: np.ndarray
    sides: np.ndarray

    @classmethod
    def of(cls, detections: Detections, size: tuple[int, int], turns: int) -> Texts:
        """The texts of one reading; ``size``: (width, height) of the page as it lies."""
        corners = np.array([cv2.boxPoints(cv2.minAreaRect(p.astype(np.float32))) for p in detections.polygons])
        corners = corners.reshape(-1, 4, 2).astype(np.float64)
        edges = corners[:, 1:3] - corners[:, :2]
        lengths = np.linalg.norm(edges, axis=2)
        upended = abs(edges[:, 0, 0]) * lengths[:, 1] < abs(edges[:, 1, 0]) * lengths[:, 0]
        sides = np.where(upended[:, None], lengths[:, ::-1], lengths)
        centres = _turned_back(corners.mean(1), size, turns)
        return cls(detections.polygons, detections.scores, np.full(len(detections), turns), centres, sides)

    @classmethod
    def joined(cls, parts: Sequence[Texts]) -> Texts:
        """The texts of all parts."""
        polygons = [polygon for part in parts for polygon in part.polygons]
        arrays = zip(*((part.scores, part.turns, part.centres, part.sides) for part in parts))
        return cls(polygons, *(np.concatenate(of_parts) for of_parts in arrays))

    def __len__(self) -> int:
        return len(self.polygons)

    def where(self, kept: np.ndarray) -> Texts:
        """Some of the texts; ``kept``: bool (M,) or indices."""
        indices = np.arange(len(self))[kept]
        arrays = (values[indices] for values in (self.scores, self.turns, self.centres, self.sides))
        return Texts([self.polygons[k] for k in indices], *arrays)

    def detections(self, size: tuple[int, int]) -> Detections:
        """Convert to the page as it lies, the most certain first."""
        order = np.argsort(-self.scores, kind="stable")
        polygons = [_turned_back(_from_top_left(self.polygons[k]), size, int(self.turns[k])) for k in order]
        return Detections(polygons, self.scores[order], 90 * int(np.bincount(self.turns, minlength=1).argmax()))

    def distances(self, others: Texts, heights_around: float = NEIGHBOUR_HEIGHTS) -> np.ndarray:
        """Half squared distances of other texts in units of so many heights of each text, float64 (K, M)."""
        heights = self.sides.min(1, initial=np.inf)
        usual = float(np.median(heights)) if len(self) else 0.0
        around = heights_around * np.maximum(heights, max(1.0, usual / 3))[:, None]
        return np.square(self.centres[:, None] - others.centres).sum(2) / (2 * around**2)

    def mean(self, others: Texts, values: np.ndarray, heights_around: float = NEIGHBOUR_HEIGHTS) -> np.ndarray:
        """Mean of the others' values (M,) around each text, float64 (K,)."""
        distances = self.distances(others, heights_around)
        weights = np.exp(distances.min(1, keepdims=True) - distances)
        return weights @ values / weights.sum(1)

    def in_fragments(self) -> bool:
        """Whether the page or a part of it may lie on its side."""
        if len(self) < MIN_TEXTS:
            return True
        short, long = np.sort(self.sides, axis=1).sum(0)
        return bool(
            long < MIN_ELONGATION * short or (self.width_to_height(self) < NARROW_ASPECT).sum() >= MIN_FRAGMENTS
        )

    def width_to_height(self, reading: Texts) -> np.ndarray:
        """Widths over heights of what a reading has found around each text, float64 (K,); next to 0 for nothing."""
        width, height = (np.exp(-self.distances(reading)) @ reading.sides).T
        return width / np.maximum(height + self.sides.min(1) / 4, 1.0)


def _wider(as_it_lies: Texts, turned: Texts) -> Texts:
    """Join two readings: the one with wider boxes around each text; too few turned texts are none.

    Where neither has clearly wider ones, those around that have decide, by their widths.
    """

    def clear(reading: Texts, other: Texts) -> Texts:
        least = np.maximum(WIDE_ASPECT, MIN_GAIN * reading.width_to_height(other))
        return reading.where(reading.width_to_height(reading) > least)

    sure = Texts.joined([clear(as_it_lies, turned), clear(turned, as_it_lies)])
    if sure.turns.sum() < (MIN_TEXTS if len(as_it_lies) >= MIN_TEXTS else MIN_TEXTS_OF_PAGE):
        return as_it_lies
    widths, kept = sure.sides[:, 0], []
    for reading in (as_it_lies, turned):
        on_side = reading.mean(sure, widths * sure.turns) > reading.mean(sure, widths) / 2
        kept.append(reading.where(on_side == reading.turns))
    return Texts.joined(kept)


def _spread(texts: Texts) -> np.ndarray:
    """Indices of long lines all over the page: one far from those that are chosen already comes first."""
    long = texts.sides[:, 0] / np.maximum(texts.sides[:, 1], 1)
    near, crowd, chosen = np.exp(-texts.distances(texts)), np.zeros(len(texts)), []
    for _ in range(min(max(MIN_VOTERS, len(texts) // TEXTS_PER_VOTER), len(texts))):
        chosen.append(int((long / (1 + crowd)).argmax()))
        crowd += near[chosen[-1]]
        long[chosen[-1]] = 0
    return np.array(chosen)


def _turned(page: np.ndarray, size: tuple[int, int], turns: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Page and size after that many quarter turns counter-clockwise."""
    return np.ascontiguousarray(np.rot90(page, turns)), size if turns % 2 == 0 else size[::-1]


def _turned_back(points: np.ndarray, size: tuple[int, int], turns: int) -> np.ndarray:
    """Convert points (N, 2) of a turned page to pixels of the page of ``size`` as it lies."""
    (width, height), (x, y) = size, points.T
    return np.stack(((x, y), (width - y, x), (width - x, height - y), (y, height - x))[turns], 1)


def _from_top_left(polygon: np.ndarray) -> np.ndarray:
    """Start a quadrangle of an upright page at its top left corner; leave other outlines as they are."""
    if len(polygon) != 4:
        return polygon
    left = np.argsort(polygon[:, 0], kind="stable")[:2]
    return np.roll(polygon, -int(left[polygon[left, 1].argmin()]), axis=0)
