"""Labels that look wrong: suspicions from shapes and transcriptions, and from where the ink of an image lies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from ocr.audit.splits import LabelledImage
from ocr.geometry.polygons import overlapping_polygons
from ocr.geometry.raster import fill
from ocr.geometry.rectangles import Rectangles
from ocr.types import Truth

KINDS = {
    "overlapping": "lies on another text with more than half of its area",
    "two_lines": "more letters than fit in one line: a box around two, or the transcription of another text",
    "mixed_levels": "words are labelled here, lines in most other images, or the other way round",
    "transposed": "the ink lies where the labels would be with x and y exchanged",
    "upside_down": "the ink lies where the labels would be in the image turned by 180 degrees",
    "all_ignored": "all of its text is marked to be ignored",
}
MIN_LETTERS = 8  # of a text whose letters are measured
MIN_LETTER_WIDTH = 0.4  # of the usual width in heights: two lines in one box have half the width at twice the height
MIN_TEXTS = 10  # of an image that is judged as a whole
WORD_LEVEL, LINE_LEVEL = 0.02, 0.1  # fraction of texts with a blank in them, at most and at least
MIN_MINORITY = 0.02  # of the images: fewer of the other level are chance
MIN_INK, MORE_INK = 1.2, 1.5  # ink within labels over that of the image; how much more in the other place
MIN_MISPLACED = 0.1  # of the images: of a street scene chance puts as much ink elsewhere


@dataclass
class Suspects:
    """Suspicious labels of a set, by kind.

    Attributes:
        by_kind: (index of the image, indices of texts; none for the whole image) of each suspicion.
        levels: fraction of texts with a blank, of images with enough text, by index.
        compared: number of images whose ink was inspected.
    """

    by_kind: dict[str, list[tuple[int, list[int]]]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    levels: dict[int, float] = field(default_factory=dict)
    compared: int = 0

    @classmethod
    def of(cls, images: Iterable[LabelledImage]) -> Suspects:
        """Suspects among images by their labels alone; :meth:`finish` compares the images with one another."""
        suspects = cls()
        for index, image in enumerate(images):
            suspects._inspect_labels(index, image.truth)
        return suspects

    def _inspect_labels(self, index: int, truth: Truth) -> None:
        counted = np.flatnonzero(~np.asarray(truth.ignore, bool)).tolist()
        if len(truth.ignore) and not counted:
            self.by_kind["all_ignored"].append((index, []))
        polygons, texts = [truth.polygons[k] for k in counted], [truth.texts[k] for k in counted]
        for kind, places in {
            "overlapping": overlapping_polygons(polygons),
            "two_lines": two_lines(polygons, texts),
        }.items():
            if places:
                self.by_kind[kind].append((index, [counted[k] for k in places]))
        if len(texts) >= MIN_TEXTS and all(texts):
            self.levels[index] = sum(" " in text.strip() for text in texts) / len(texts)

    def inspect_ink(self, index: int, pixels: np.ndarray, image: LabelledImage) -> None:
        """Inspect the ink under an image's labels, in its pixels at any scale: uint8 (h, w, 3)."""
        if len(image.truth.polygons) >= MIN_TEXTS:
            self.compared += 1
            if kind := misplaced(pixels, image.truth.polygons, image.width, image.height):
                self.by_kind[kind].append((index, []))

    def finish(self) -> None:
        """Compare the images with one another; where few are misplaced, their pictures are as they are by chance."""
        for kind in ("transposed", "upside_down"):
            if len(self.by_kind[kind]) < MIN_MISPLACED * self.compared:
                self.by_kind[kind] = []
        words = [index for index, level in self.levels.items() if level <= WORD_LEVEL]
        lines = [index for index, level in self.levels.items() if level >= LINE_LEVEL]
        fewer = min(words, lines, key=len)
        if len(fewer) > MIN_MINORITY * len(self.levels):
            self.by_kind["mixed_levels"] = [(index, []) for index in fewer]

    def counts(self) -> dict[str, int]:
        """Texts, or images where they are judged as a whole, by kind."""
        return {kind: sum(len(indices) or 1 for _, indices in rows) for kind, rows in self.by_kind.items() if rows}


def two_lines(polygons: Sequence[np.ndarray], texts: Sequence[str]) -> list[int]:
    """Indices of texts whose letters would be far narrower than usual among these texts, or that have two lines."""
    long = [k for k, text in enumerate(texts) if len(text) >= MIN_LETTERS]
    broken = [k for k, text in enumerate(texts) if "\n" in text.strip()]
    if len(long) < MIN_TEXTS:
        return broken
    halves = Rectangles.of([polygons[k] for k in long]).halves
    letters = halves[:, 0] / np.array([len(texts[k]) for k in long]) / np.maximum(halves[:, 1], 1e-6)
    narrow = letters < MIN_LETTER_WIDTH * np.median(letters)
    return sorted({*broken, *(k for k, is_narrow in zip(long, narrow.tolist()) if is_narrow)})


def misplaced(image: np.ndarray, polygons: Sequence[np.ndarray], width: int, height: int) -> str | None:
    """``transposed`` or ``upside_down`` where the ink lies there and not within the labels; None otherwise."""
    rows, columns = image.shape[:2]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    ink = cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)).astype(np.float32)
    scale = np.array([columns / width, rows / height])
    candidates = {
        "": [p * scale for p in polygons],
        "transposed": [p[:, ::-1] * scale for p in polygons],
        "upside_down": [(np.array([width, height]) - p) * scale for p in polygons],
    }
    within = {}
    for kind, outlines in candidates.items():
        mask = np.zeros((rows, columns), np.uint8)
        fill(mask, outlines, 1)
        within[kind] = float(cv2.mean(ink, mask)[0]) if mask.any() else 0.0
    best = max(within, key=lambda kind: within[kind])
    usual = float(ink.mean())
    return best if within[best] > max(MIN_INK * usual, MORE_INK * within[""]) else None
