"""The threshold map: how near a pixel is to the outline of a text, as a share of the text's offset.

See Liao et al. 2020, section 3.4: on the outline it is 1, at the offset inside and outside it is 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ocr.geometry.raster import SUBPIXEL_BITS, fixed_point
from ocr.geometry.rectangles import Rectangles


def draw_borders(
    thresh_map: np.ndarray,
    thresh_mask: np.ndarray,
    polygons: Sequence[np.ndarray],
    rectangles: Rectangles,
    offsets: np.ndarray,
) -> None:
    """Add instances to the threshold map and mask, in place, each on its bounding box only.

    Where several meet, the largest value holds.

    Args:
        thresh_map: uint8 (H, W), 0..255 for 0..1.
        thresh_mask: uint8 (H, W), 0/1: inside a text or within its offset.
        polygons: float (N, 2) each, M of them.
        rectangles: of the polygons.
        offsets: float64 (M,), pixels.
    """
    if not polygons:
        return
    height, width = thresh_map.shape
    windows = _windows(rectangles, offsets, height, width)
    for k, (x0, y0, x1, y1) in enumerate(windows.tolist()):
        if x0 >= x1 or y0 >= y1:
            continue
        if rectangles.exact[k]:
            distance = _from_rectangle(rectangles, k, x0, y0, x1, y1)
        else:
            distance = _from_outline(polygons[k], x0, y0, x1, y1, int(np.ceil(offsets[k])) + 1)
        limit = max(float(offsets[k]), 1e-6)
        inside = (distance <= limit).view(np.uint8)
        border = cv2.convertScaleAbs(distance, alpha=255 / limit)
        window = thresh_map[y0:y1, x0:x1]
        cv2.max(window, np.invert(border, out=border), dst=window)
        window = thresh_mask[y0:y1, x0:x1]
        cv2.max(window, inside, dst=window)


def _windows(rectangles: Rectangles, offsets: np.ndarray, height: int, width: int) -> np.ndarray:
    """Around the rectangles grown by their offsets, within the map: int (M, 4), x0, y0, x1, y1."""
    grown = rectangles.halves + offsets[:, None] + ~rectangles.exact[:, None]  # drawn outlines are a pixel wide
    extent = (np.abs(rectangles.axes) * grown[..., None]).sum(axis=1)
    low = np.maximum(np.floor(rectangles.centres - extent), 0)
    high = np.minimum(np.ceil(rectangles.centres + extent), (width, height))
    return np.concatenate([low, high], axis=1).astype(int)


def _from_rectangle(rectangle: Rectangles, k: int, x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    """Distances of the pixel centres of a window from the outline of rectangle ``k``, negative inside; float32.

    Around a corner they are those from the nearer side's line: as for the kernel and for what it is unclipped to,
    every level set is a rectangle.
    """
    centre, axes, halves = rectangle.centres[k], rectangle.axes[k].astype(np.float32), rectangle.halves[k]
    x = np.arange(x0 + 0.5, x1, dtype=np.float32) - np.float32(centre[0])
    y = np.arange(y0 + 0.5, y1, dtype=np.float32) - np.float32(centre[1])
    along, across = (np.abs(a * x + b * y[:, None]) - np.float32(half) for (a, b), half in zip(axes, halves))
    return np.maximum(along, across, out=along)


def _from_outline(polygon: np.ndarray, x0: int, y0: int, x1: int, y1: int, reach: int) -> np.ndarray:
    """The same for any polygon, float32 in pixels, by a distance transform.

    What lies up to ``reach`` outside the window is seen.
    """
    left, top = x0 - reach, y0 - reach
    local = fixed_point(polygon - (left, top))
    away = np.full((y1 - top + reach, x1 - left + reach), 255, np.uint8)
    inside = np.zeros_like(away)
    cv2.polylines(away, [local], True, 0, 1, shift=SUBPIXEL_BITS)
    cv2.fillPoly(inside, [local], 1, shift=SUBPIXEL_BITS)
    distance = cv2.distanceTransform(away, cv2.DIST_L2, cv2.DIST_MASK_5)
    return np.where(inside, -distance, distance)[reach:-reach, reach:-reach]
