"""Polygons in continuous coordinates drawn into maps by OpenCV."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

SUBPIXEL_BITS = 4  # cv2 takes vertices as fixed-point numbers with this many fractional bits


def fixed_point(polygon: np.ndarray) -> np.ndarray:
    """Continuous coordinates (..., 2) to cv2's: pixel centres at whole numbers, fixed point."""
    return np.round((polygon - 0.5) * (1 << SUBPIXEL_BITS)).astype(np.int32)


def fill(canvas: np.ndarray, polygons: Sequence[np.ndarray], value: int) -> None:
    """Set the pixels whose area a polygon (N, 2) touches, in a uint8 (H, W), to a value."""
    if not len(polygons):
        return
    points = fixed_point(np.concatenate(polygons))
    end = 0
    for polygon in polygons:
        start, end = end, end + len(polygon)
        if end > start:
            cv2.fillPoly(canvas, [points[start:end]], value, shift=SUBPIXEL_BITS)
