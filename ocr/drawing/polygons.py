"""Colours of detections and labels, and their outlines drawn into images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from ocr.types import Detections

# Blue, orange, magenta: 40 or more apart in CIELAB with normal, protan, deutan and tritan vision (tests measure it)
FOUND, MISSED, FALSE = (0, 0, 200), (230, 159, 0), (220, 0, 160)
Colour = tuple[int, int, int]


def hex_code(colour: Colour) -> str:
    """A colour as plots take it.

    >>> hex_code((0, 0, 200))
    '#0000c8'
    """
    return "#" + "".join(f"{value:02x}" for value in colour)


def draw_polygons(image: np.ndarray, polygons: Sequence[np.ndarray], colour: Colour, width: int = 1) -> None:
    """Draw outlines in place.

    Args:
        image: uint8 (H, W, 3) RGB.
        polygons: (N, 2) each, in continuous pixels of the image.
        width: of the lines, pixels.
    """
    outlines = [np.round(polygon - 0.5).astype(np.int32) for polygon in polygons]
    cv2.polylines(image, outlines, True, colour, width, cv2.LINE_AA)


def draw_detections(image: np.ndarray, detections: Detections) -> np.ndarray:
    """A copy of an image, uint8 (H, W, 3) RGB, with the outlines of its detections."""
    image = image.copy()
    draw_polygons(image, detections.polygons, FOUND, max(1, round(max(image.shape) / 1000)))
    return image


def draw_matches(image: np.ndarray, scale: np.ndarray, truth: Any, detections: Any, matched: Any) -> np.ndarray:
    """Outlines of found text (blue), missed text (orange) and false detections (magenta), drawn in place.

    Args:
        image: uint8 (H, W, 3) RGB.
        scale: float (2,), from the polygons' pixels to the image's, x then y.
        truth: polygons and ignore flags.
        detections: of the image.
        matched: which belongs to which, see :class:`ocr.metrics.matching.Match`.
    """
    missed = [p for p, d, ignored in zip(truth.polygons, matched.truth, truth.ignore) if d < 0 and not ignored]
    hits = [p for p, g in zip(detections.polygons, matched.detection) if g >= 0]
    false = [p for p, g, free in zip(detections.polygons, matched.detection, matched.dont_care) if g < 0 and not free]
    for polygons, colour in ((hits, FOUND), (missed, MISSED), (false, FALSE)):
        draw_polygons(image, [p * scale for p in polygons], colour)
    return image
