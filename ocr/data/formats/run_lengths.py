"""COCO's masks as run lengths, and their outlines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from ocr.data.formats.shapes import NO_NUMBERS

MAX_PIXELS = 2**28  # of a mask: a file may claim any size


def run_length_outlines(segmentation: Mapping[str, Any], stated: tuple[int, int] | None = None) -> list[np.ndarray]:
    """Outlines of a run-length mask, float32 (N, 2) each in continuous pixels; quads where a rectangle fits.

    Args:
        segmentation: ``size`` [height, width] and ``counts``, runs of 0 and 1 in turns, down the columns: numbers, or
            packed into text as pycocotools does (``rleToString`` of its ``maskApi.c``).
        stated: (width, height) of the image, to which a mask of another scale is brought.

    Returns:
        None of it where the mask is empty or damaged, or of another shape than the image.
    """
    try:
        height, width = (int(side) for side in segmentation["size"])
        counts = segmentation["counts"]
        runs = np.array(_unpacked(counts) if isinstance(counts, str) else counts, np.int64)
    except (KeyError, *NO_NUMBERS):
        return []
    if not 0 < height * width <= MAX_PIXELS or (runs < 0).any() or runs.ndim != 1 or runs.sum() != height * width:
        return []
    values = (np.arange(len(runs)) % 2).astype(np.uint8)
    mask = np.repeat(values, runs).reshape(width, height).T
    contours, _ = cv2.findContours(np.ascontiguousarray(mask), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    scale = (stated[0] / width, stated[1] / height) if stated else (1.0, 1.0)
    if max(scale) > 1.02 * min(scale):
        return []
    return [(_outline(contour) * scale).astype(np.float32) for contour in contours]


def _outline(contour: np.ndarray) -> np.ndarray:
    """The contour through pixel centres, half a pixel further out; its rectangle where that has the same area."""
    centre, (w, h), angle = cv2.minAreaRect(contour)
    area = cv2.contourArea(contour) + cv2.arcLength(contour, True) / 2 + 1  # of the pixels, by Pick's theorem
    if area >= 0.9 * (w + 1) * (h + 1):
        return cv2.boxPoints(((centre[0] + 0.5, centre[1] + 0.5), (w + 1, h + 1), angle))
    return contour.reshape(-1, 2).astype(np.float32) + 0.5


def _unpacked(text: str) -> list[int]:
    """LEB128-like numbers of six bits, each from the third on the difference to the one two before."""
    runs: list[int] = []
    value = shift = 0
    for byte in text.encode("ascii", "replace"):
        bits = byte - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            if bits & 0x10:
                value |= -1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs
