"""The threshold map: how near a pixel is to the outline of a text, as a share of the text's offset.

See Liao et al. 2020, section 3.4: on the outline it is 1, at the offset inside and outside it is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from ocr.geometry.raster import SUBPIXEL_BITS, fixed_point
from ocr.geometry.rectangles import Rectangles

FINEST = 64.0  # units a pixel, at most, of distances in whole numbers
LARGEST = 16000  # of these units: two coordinates add up to less than an int16 holds


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
    distances = _Distances.of(rectangles, windows)
    for k, (x0, y0, x1, y1) in enumerate(windows.tolist()):
        if x0 >= x1 or y0 >= y1:
            continue
        if rectangles.exact[k]:
            distance, unit = distances.window(k, x1 - x0, y1 - y0), distances.unit[k]
        else:
            distance, unit = _from_outline(polygons[k], x0, y0, x1, y1, int(np.ceil(offsets[k])) + 1), 1.0
        limit = max(offsets[k] * unit, 1e-6)
        inside = (distance <= distance.dtype.type(limit)).view(np.uint8)
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


class _Distances(NamedTuple):
    """Signed distances from rectangles in closed form.

    They are whole numbers of 1 / ``unit`` pixels in int16, which halves what passes through the processor, at an error
    of some hundredths of a pixel. Around a corner they are those from the nearer side's line: as for the kernel and
    for what the kernel grows to, every level set is a rectangle.

    Attributes:
        columns, rows: int16 (M, 2, W) and (M, 2, H) of the largest window, from each window's left and top on; their
            sums are the coordinates along two sides, from the centre.
        half: int16 (M, 2, 1, 1), half lengths of these sides.
        unit: list of M floats, units a pixel.
    """

    columns: np.ndarray
    rows: np.ndarray
    half: np.ndarray
    unit: list[float]

    @classmethod
    def of(cls, rectangles: Rectangles, windows: np.ndarray) -> _Distances:
        """Each rectangle is looked at in a window of its own, int (M, 4): x0, y0, x1, y1."""
        centres, halves = rectangles.centres, rectangles.halves
        low, high = windows[:, :2], windows[:, 2:]
        farthest = np.maximum(np.abs(low - centres), np.abs(high - centres)).sum(axis=1) + halves.sum(axis=1)
        unit = np.minimum(FINEST, LARGEST / np.maximum(farthest, 1e-6))
        axes = (rectangles.axes * unit[:, None, None]).astype(np.float32)
        first = (low - centres + 0.5).astype(np.float32)[..., None]
        width, height = (high - low).max(axis=0).clip(min=0).tolist()
        x, y = np.arange(width, dtype=np.float32) + first[:, :1], np.arange(height, dtype=np.float32) + first[:, 1:]
        # beyond its own window a value may be too large for int16; int32 on the way lets it wrap in silence
        columns, rows = (p.astype(np.int32).astype(np.int16) for p in (axes[..., :1] * x, axes[..., 1:] * y))
        half = np.rint(halves * unit[:, None]).astype(np.int16)[..., None, None]
        return cls(columns, rows, half, unit.tolist())

    def window(self, k: int, width: int, height: int) -> np.ndarray:
        """Of the pixel centres of the window from the outline of rectangle ``k``, negative inside; int16, in units."""
        along = np.add(self.rows[k, :, :height, None], self.columns[k, :, None, :width])
        np.subtract(np.abs(along, out=along), self.half[k], out=along)
        return np.maximum(along[0], along[1], out=along[0])


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
