"""Training targets of Differentiable Binarization (Liao et al. 2020, section 3.4; 2022, section 3.5).

A text polygon is shrunk by a distance D to its kernel, and grown by the same D, see :mod:`ocr.geometry`; between the
two the threshold map falls linearly from its maximum on the outline to its minimum at distance D.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import shapely

from ocr.data.polygons import flatten, to_shapely
from ocr.errors import UserError
from ocr.geometry import SHRINKS, check_amount, short_side, shrink_distance

SUBPIXEL_BITS = 4  # cv2 takes vertices as fixed-point numbers with this many fractional bits
SHRINK_MAP, SHRINK_MASK, THRESH_MAP, THRESH_MASK = range(4)  # channels of the target array


@dataclass(frozen=True)
class TargetMaker:
    """Draws the four target maps of one image.

    Attributes:
        shrink: ``area`` for the published offset, ``height`` for a share of the shorter side.
        shrink_ratio: r of the former, 0 < r < 1 (0.4 in DB), or the share, below 0.5.
        min_text_size: text whose shorter side is below this many network pixels is masked, not learned.
        end_weight: weight of the background beyond both ends of a text, a whole number from 1. Few pixels lie between
            neighbours on a line, and whether these become one contour hangs on them.
        end_reach: how far that goes, in shorter sides of the text.
    """

    shrink: str
    shrink_ratio: float
    min_text_size: float
    end_weight: int = 1
    end_reach: float = 0.75

    def __post_init__(self) -> None:
        check_amount("data.targets.shrink", self.shrink, SHRINKS, self.shrink_ratio)
        if not isinstance(self.end_weight, int) or not 1 <= self.end_weight <= 255:
            raise UserError(f"data.targets.end_weight must be a whole number from 1 to 255, got {self.end_weight!r}")

    def __call__(
        self,
        polygons: Sequence[np.ndarray],
        ignore: np.ndarray,
        height: int,
        width: int,
        valid: np.ndarray | None = None,
    ) -> np.ndarray:
        """Target maps.

        Args:
            polygons: float32 (N, 2) each, in the pixels of the maps; they may reach outside.
            ignore: bool (M,).
            valid: polygon (N, 2) of the area that shows the image, masked outside; None for all.

        Returns:
            uint8 (4, height, width): shrink map 0/1; shrink mask, 0 or the pixel's weight; threshold map, 0 for its
            minimum to 255 for its maximum; threshold mask 0/1.
        """
        maps = np.zeros((4, height, width), np.uint8)
        if valid is None:
            maps[SHRINK_MASK] = 1
        else:
            _fill(maps[SHRINK_MASK], [valid], 1)
        if not polygons:
            return maps
        shapes = to_shapely(*flatten(polygons))
        area, perimeter = shapely.area(shapes), shapely.length(shapes)
        offset = shrink_distance(area, perimeter, self.shrink, self.shrink_ratio)
        kernels = shapely.buffer(shapes, -offset, join_style="mitre", quad_segs=2)
        learned = ~np.asarray(ignore, bool) & (short_side(area, perimeter) >= self.min_text_size)
        learned &= ~shapely.is_empty(kernels)

        parts = shapely.get_parts(kernels[learned])
        rings = shapely.get_exterior_ring(parts)
        coordinates, owner = shapely.get_coordinates(rings, return_index=True)
        _fill(maps[SHRINK_MAP], np.split(coordinates, np.flatnonzero(np.diff(owner)) + 1), 1)
        if self.end_weight > 1:
            ends = np.zeros((height, width), np.uint8)
            kept = np.flatnonzero(learned)
            _fill(ends, [_lengthened(polygons[k], float(offset[k]), self.end_reach) for k in kept], 1)
            maps[SHRINK_MASK] += (self.end_weight - 1) * (ends & maps[SHRINK_MASK] & (1 - maps[SHRINK_MAP]))
        _fill(maps[SHRINK_MASK], [p for p, keep in zip(polygons, learned) if not keep], 0)
        for k in np.flatnonzero(learned):
            _draw_border(maps[THRESH_MAP], maps[THRESH_MASK], polygons[k], float(offset[k]))
        return maps


def _lengthened(polygon: np.ndarray, offset: float, reach: float) -> np.ndarray:
    """The text's rectangle (4, 2), longer by ``reach`` short sides at both ends, narrower by half the kernel's."""
    centre, sides, angle = cv2.minAreaRect(np.asarray(polygon, np.float32))
    short = min(sides)
    longer, narrower = max(sides) + 2 * reach * short, max(short - offset, 1.0)
    size = (longer, narrower) if sides[0] >= sides[1] else (narrower, longer)
    return cv2.boxPoints((centre, size, angle))


def _fixed_point(polygon: np.ndarray) -> np.ndarray:
    """Continuous coordinates to cv2's: pixel centres at whole numbers, fixed point."""
    return np.round((polygon - 0.5) * (1 << SUBPIXEL_BITS)).astype(np.int32)


def _fill(canvas: np.ndarray, polygons: Sequence[np.ndarray], value: int) -> None:
    for polygon in polygons:
        if len(polygon):
            cv2.fillPoly(canvas, [_fixed_point(polygon)], value, shift=SUBPIXEL_BITS)


def _draw_border(thresh_map: np.ndarray, thresh_mask: np.ndarray, polygon: np.ndarray, offset: float) -> None:
    """Add one instance to the threshold map and mask, in place, working on its bounding box only."""
    height, width = thresh_map.shape
    reach = int(np.ceil(offset)) + 1
    left, top = np.floor(polygon.min(axis=0)).astype(int) - reach
    right, bottom = np.ceil(polygon.max(axis=0)).astype(int) + reach
    # an outline up to `reach` outside the map still counts inside it
    left, top = max(left, -reach), max(top, -reach)
    right, bottom = min(right, width + reach), min(bottom, height + reach)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    if x0 >= x1 or y0 >= y1:
        return
    local = _fixed_point(polygon - (left, top))
    away = np.full((bottom - top, right - left), 255, np.uint8)
    inside = np.zeros_like(away)
    cv2.polylines(away, [local], True, 0, 1, shift=SUBPIXEL_BITS)
    cv2.fillPoly(inside, [local], 1, shift=SUBPIXEL_BITS)
    distance = cv2.distanceTransform(away, cv2.DIST_L2, cv2.DIST_MASK_5)
    height_of_border = cv2.convertScaleAbs(np.maximum(offset - distance, 0), alpha=255 / max(offset, 1e-6))
    inside |= (distance <= offset).view(np.uint8)
    window = (slice(y0, y1), slice(x0, x1))
    part = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    np.maximum(thresh_map[window], height_of_border[part], out=thresh_map[window])
    np.maximum(thresh_mask[window], inside[part], out=thresh_mask[window])
