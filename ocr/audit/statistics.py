"""Figures of a labelled set: how large its text is at network input, its shape, how much of it there is."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ocr.audit.label_faults import Suspects
from ocr.audit.splits import LabelledImage, labelled_images
from ocr.data.sources.build import Source
from ocr.errors import UserError
from ocr.geometry.rectangles import Rectangles
from ocr.pipeline import ResizePolicy

log = logging.getLogger(__name__)
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
HEIGHT_BINS = (0, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)  # network pixels
ASPECT_BINS = (0, 0.5, 1, 2, 3, 5, 8, 12, 20, 40)  # length over height
ANGLE_BINS = (-90, -60, -30, -10, -3, -1, 1, 3, 10, 30, 60)  # degrees
COUNT_BINS = (0, 1, 2, 5, 10, 20, 50, 100, 200)  # texts per image
MIN_LEARNABLE = 0.99  # of the texts that the suggested long side makes large enough
CHECKED_IMAGES = 1000  # of a training split, evenly drawn: enough to warn by
MANY_TOO_SMALL = 0.02  # of the texts that count


@dataclass(frozen=True)
class TextFigures:
    """Figures of the texts of a set that count, M in all.

    Attributes:
        heights: float64 (M,), shorter side in network pixels.
        needed: float64 (M,), long side of the network's input at which the text is ``min_text_size`` high.
        aspects: float64 (M,), length over height.
        angles: float64 (K,), degrees from the horizontal, -90..90; those of single letters, which have none, left out.
        per_image: int (S,), texts per image.
    """

    heights: np.ndarray
    needed: np.ndarray
    aspects: np.ndarray
    angles: np.ndarray
    per_image: np.ndarray

    @classmethod
    def of(cls, images: Iterable[LabelledImage], policy: ResizePolicy, min_text_size: float) -> TextFigures:
        """Figures of images at the network size of ``policy``; text below ``min_text_size`` pixels is not learned."""
        columns: list[list[np.ndarray]] = [[np.zeros(0)] for _ in range(4)]
        per_image = []
        for _, width, height, truth, _ in images:
            counted = np.flatnonzero(~np.asarray(truth.ignore, bool)).tolist()
            per_image.append(len(counted))
            if not counted:
                continue
            polygons = [truth.polygons[k] for k in counted]
            rectangles = Rectangles.of(polygons)
            scale = policy.scale(width, height)
            height_of = 2 * rectangles.halves[:, 1]
            along = rectangles.axes[:, 0] * np.where(rectangles.axes[:, :1, 0] < 0, -1, 1)
            letter = np.array([len(truth.texts[k]) == 1 for k in counted], bool)
            turns = np.degrees(np.arctan2(along[:, 1], along[:, 0]))[~letter]
            sides = policy.long_side / scale * min_text_size / np.maximum(height_of, 1e-6)
            rows = (height_of * scale, sides, 2 * rectangles.halves[:, 0] / np.maximum(height_of, 1e-6), turns)
            for column, values in zip(columns, rows):
                column.append(values)
        heights, needed, aspects, angles = (np.concatenate(column) for column in columns)
        return cls(heights, needed, aspects, angles, np.array(per_image, int))

    @classmethod
    def join(cls, parts: Sequence[TextFigures]) -> TextFigures:
        """Figures of several parts of a set."""
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))

    def summary(self, min_text_size: float) -> dict[str, Any]:
        """Plain figures: quantiles, histograms (texts from each bound on), what is too small to be learned."""
        small = int((self.heights < min_text_size).sum())
        long_side = np.ceil(np.quantile(self.needed, MIN_LEARNABLE, method="higher")) if small else None
        return {
            "texts": len(self.heights),
            "text_height": _quantiles(self.heights),
            "text_height_histogram": _histogram(self.heights, HEIGHT_BINS),
            "too_small": small,
            "min_text_size": min_text_size,
            "long_side_needed": None if long_side is None else int(long_side),
            "aspect": _quantiles(self.aspects),
            "aspect_histogram": _histogram(self.aspects, ASPECT_BINS),
            "angle": _quantiles(self.angles),
            "angle_histogram": _histogram(self.angles, ANGLE_BINS),
            "texts_per_image": _quantiles(self.per_image),
            "texts_per_image_histogram": _histogram(self.per_image, COUNT_BINS),
        }


def check_text_sizes(sources: Sequence[Source], policy: ResizePolicy, min_text_size: float) -> dict[str, Any]:
    """The quick part of an audit, before a training: warns where many texts are too small to be learned.

    Args:
        sources: of the training split; those that are not files are left out.
        policy, min_text_size: see :meth:`TextFigures.of`.

    Returns:
        :meth:`TextFigures.summary` of at most :data:`CHECKED_IMAGES` images of each source, and ``suspects``, see
        :mod:`ocr.audit.label_faults`; empty without files.

    Raises:
        UserError: all of the texts are too small.
    """
    every = -(-max((len(source) for source in sources), default=0) // CHECKED_IMAGES) or 1
    images = list(labelled_images(sources, "train", every))
    figures, suspects = TextFigures.of(images, policy, min_text_size), Suspects.of(images)
    suspects.finish()
    summary = figures.summary(min_text_size) | {"suspects": suspects.counts()}
    texts, small = summary["texts"], summary["too_small"]
    if not texts:
        return {}
    check_any_large_enough(figures, policy, min_text_size)
    if small > MANY_TOO_SMALL * texts:
        where = f"below {min_text_size:g} pixels high at network input (long side {policy.long_side})"
        needed = f"model.pipeline.resize.long_side={summary['long_side_needed']} keeps all but one in a hundred"
        log.warning("%d of %d texts looked at are %s and never learned; %s", small, texts, where, needed)
    return summary


def check_any_large_enough(figures: TextFigures, policy: ResizePolicy, min_text_size: float) -> None:
    """Raise UserError where all texts of a training split are too small to be learned."""
    texts = len(figures.heights)
    if texts and (figures.heights < min_text_size).all():
        needed = figures.summary(min_text_size)["long_side_needed"]
        raise UserError(
            f"the train split has nothing to learn from: all {texts} texts are below {min_text_size:g} pixels high at "
            f"network input (long side {policy.long_side}); model.pipeline.resize.long_side={needed} keeps all but one "
            "in a hundred"
        )


def _histogram(values: np.ndarray, bounds: Sequence[float]) -> dict[str, int]:
    """How many values lie from each bound to the next."""
    counts, _ = np.histogram(values, [*bounds, np.inf])
    return dict(zip(map(str, bounds), counts.tolist()))


def _quantiles(values: np.ndarray) -> dict[str, float]:
    return {f"{q:g}": round(float(np.quantile(values, q)), 2) for q in QUANTILES} if len(values) else {}
