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
WORD_ASPECT = 2  # below this a quadrangle is read along its first edge, from here on along its longer side
OUTLINE = 0.5  # pixels that a filled polygon is larger on each side than what was asked for
RECTANGLE = 0.25  # pixels that the corners of a quadrangle may be off those of a rectangle that stands for it
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
        end_reach: how far that goes, in heights of the text.
        balance: how much more a pixel of a small text weighs, its surroundings included: (mean kernel area / area of
            its kernel) ** balance, rounded. 0 for pixels alike; 1 is the balance of PixelLink (Deng et al. 2018,
            section 3.3.2), where all instances of an image count alike.
        balance_limit: the largest such weight, a whole number from 1.
    """

    shrink: str
    shrink_ratio: float
    min_text_size: float
    end_weight: int = 1
    end_reach: float = 0.75
    balance: float = 0.0
    balance_limit: int = 4

    def __post_init__(self) -> None:
        check_amount("data.targets.shrink", self.shrink, SHRINKS, self.shrink_ratio)
        for name in ("end_weight", "balance_limit"):
            value = getattr(self, name)
            if not isinstance(value, int) or not 1 <= value <= 255:
                raise UserError(f"data.targets.{name} must be a whole number from 1 to 255, got {value!r}")
        if not 0 <= self.balance <= 1:
            raise UserError(f"data.targets.balance must lie in 0..1, got {self.balance!r}")

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
        # cv2 fills the pixels that an outline touches, too: half a pixel less, so that a kernel of three has no fourth
        spare = (short_side(area, perimeter) - 2 * offset - 1) / 2
        drawn = offset + np.clip(spare, 0, OUTLINE)
        kernels = shapely.buffer(shapes, -drawn, join_style="mitre", quad_segs=2)
        learned = ~np.asarray(ignore, bool) & (short_side(area, perimeter) >= self.min_text_size)
        learned &= ~shapely.is_empty(kernels)

        _fill(maps[SHRINK_MAP], _outlines(kernels[learned]), 1)
        kept = np.flatnonzero(learned)
        if self.balance > 0 and len(kept):
            weights = self._weights(shapely.area(kernels[kept]))
            grown = shapely.buffer(shapes[kept], offset[kept], join_style="mitre", quad_segs=2)
            region = np.zeros((height, width), np.uint8)
            for weight in range(2, self.balance_limit + 1):  # where two meet, the larger weight holds
                _fill(region, _outlines(grown[weights == weight]), weight)
            maps[SHRINK_MASK] = np.maximum(maps[SHRINK_MASK], region * maps[SHRINK_MASK])
        if self.end_weight > 1:
            ends = np.zeros((height, width), np.uint8)
            _fill(ends, [_lengthened(polygons[k], float(offset[k]), self.end_reach) for k in kept], self.end_weight)
            ends *= (maps[SHRINK_MASK] > 0) & (maps[SHRINK_MAP] == 0)
            np.maximum(maps[SHRINK_MASK], ends, out=maps[SHRINK_MASK])
        _fill(maps[SHRINK_MASK], [p for p, keep in zip(polygons, learned) if not keep], 0)
        _draw_borders(maps[THRESH_MAP], maps[THRESH_MASK], [polygons[k] for k in kept], offset[kept])
        return maps

    def _weights(self, areas: np.ndarray) -> np.ndarray:
        """Whole weights (M,) of kernels of some areas, from 1."""
        weights = (areas.mean() / np.maximum(areas, 1e-6)) ** self.balance
        return np.clip(np.rint(weights), 1, self.balance_limit).astype(int)


def _outlines(shapes: np.ndarray) -> list[np.ndarray]:
    """Exterior rings (N, 2) of the parts of shapely polygons."""
    rings = shapely.get_exterior_ring(shapely.get_parts(shapes))
    coordinates, owner = shapely.get_coordinates(rings, return_index=True)
    return np.split(coordinates, np.flatnonzero(np.diff(owner)) + 1)


def _lengthened(polygon: np.ndarray, offset: float, reach: float) -> np.ndarray:
    """The text's rectangle (4, 2), longer by ``reach`` heights at both ends, lower by half of what its kernel is."""
    centre, (first, second), angle = cv2.minAreaRect(np.asarray(polygon, np.float32))
    along_first = first >= second
    if len(polygon) == 4 and max(first, second) < WORD_ASPECT * min(first, second):  # a digit is higher than wide
        top, turn = polygon[1] - polygon[0], np.deg2rad(angle)
        along_first = abs(top @ (np.cos(turn), np.sin(turn))) >= abs(top @ (-np.sin(turn), np.cos(turn)))
    length, height = (first, second) if along_first else (second, first)
    length, height = length + 2 * reach * height, max(height - offset, 1.0)
    return cv2.boxPoints((centre, (length, height) if along_first else (height, length), angle))


def _fixed_point(polygon: np.ndarray) -> np.ndarray:
    """Continuous coordinates to cv2's: pixel centres at whole numbers, fixed point."""
    return np.round((polygon - 0.5) * (1 << SUBPIXEL_BITS)).astype(np.int32)


def _fill(canvas: np.ndarray, polygons: Sequence[np.ndarray], value: int) -> None:
    for polygon in polygons:
        if len(polygon):
            cv2.fillPoly(canvas, [_fixed_point(polygon)], value, shift=SUBPIXEL_BITS)


def _draw_borders(
    thresh_map: np.ndarray, thresh_mask: np.ndarray, polygons: Sequence[np.ndarray], offsets: np.ndarray
) -> None:
    """Add instances to the threshold map and mask, in place, each on its bounding box only."""
    height, width = thresh_map.shape
    quads = np.array([p if len(p) == 4 else p[:1].repeat(4, axis=0) for p in polygons], np.float64).reshape(-1, 4, 2)
    centres, axes, halves, is_rectangle = _rectangles(quads)
    for k, (polygon, offset) in enumerate(zip(polygons, offsets.tolist())):
        reach = int(np.ceil(offset)) + 1
        left, top = np.floor(polygon.min(axis=0)).astype(int) - reach
        right, bottom = np.ceil(polygon.max(axis=0)).astype(int) + reach
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
        if x0 >= x1 or y0 >= y1:
            continue
        if is_rectangle[k]:
            distance = _from_rectangle(centres[k], axes[k], halves[k], x0, y0, x1, y1)
        else:
            distance = _from_outline(polygon, x0, y0, x1, y1, reach)
        window = (slice(y0, y1), slice(x0, x1))
        inside = (distance <= offset).view(np.uint8)
        np.subtract(offset, np.abs(distance, out=distance), out=distance)
        border = cv2.convertScaleAbs(np.maximum(distance, 0, out=distance), alpha=255 / max(offset, 1e-6))
        np.maximum(thresh_map[window], border, out=thresh_map[window])
        np.maximum(thresh_mask[window], inside, out=thresh_mask[window])


def _rectangles(quads: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Quadrangles float64 (M, 4, 2) as rectangles.

    Returns:
        centres (M, 2), unit vectors along two sides (M, 2, 2), half lengths of these (M, 2), and whether the corners
        lie within :data:`RECTANGLE` pixels of the quadrangle's, bool (M,).
    """
    centres = quads.mean(axis=1)
    sides = np.stack([quads[:, 1] + quads[:, 2], quads[:, 2] + quads[:, 3]], axis=1) / 2 - centres[:, None]
    halves = np.linalg.norm(sides, axis=2)
    first = sides[:, 0] / np.maximum(halves[:, :1], 1e-6)
    axes = np.stack([first, first[:, ::-1] * (-1, 1)], axis=1)
    reach = axes * halves[..., None]
    corners = centres[:, None] + np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) @ reach
    away = np.abs(corners - quads).max(axis=(1, 2), initial=0)
    return centres, axes, halves, (away <= RECTANGLE) & (halves.min(axis=1, initial=np.inf) > 0)


def _from_rectangle(
    centre: np.ndarray, axes: np.ndarray, half: np.ndarray, x0: int, y0: int, x1: int, y1: int
) -> np.ndarray:
    """Signed distance of the pixel centres of a window from a rectangle's outline, negative inside; float32."""
    x = np.arange(x0, x1, dtype=np.float32) + np.float32(0.5 - centre[0])
    y = np.arange(y0, y1, dtype=np.float32) + np.float32(0.5 - centre[1])
    beyond = []
    for (along_x, along_y), size in zip(axes.astype(np.float32), half.astype(np.float32)):
        part = np.add.outer(y * along_y, x * along_x)
        np.abs(part, out=part)
        beyond.append(np.subtract(part, size, out=part))
    u, v = beyond
    nearest_side = np.minimum(np.maximum(u, v), 0)
    for part in beyond:
        np.maximum(part, 0, out=part)
        np.square(part, out=part)
    u += v
    np.sqrt(u, out=u)
    u += nearest_side
    return u


def _from_outline(polygon: np.ndarray, x0: int, y0: int, x1: int, y1: int, reach: int) -> np.ndarray:
    """The same for any polygon, by a distance transform; what lies up to ``reach`` outside the window is seen."""
    left, top = x0 - reach, y0 - reach
    local = _fixed_point(polygon - (left, top))
    away = np.full((y1 - top + reach, x1 - left + reach), 255, np.uint8)
    inside = np.zeros_like(away)
    cv2.polylines(away, [local], True, 0, 1, shift=SUBPIXEL_BITS)
    cv2.fillPoly(inside, [local], 1, shift=SUBPIXEL_BITS)
    distance = cv2.distanceTransform(away, cv2.DIST_L2, cv2.DIST_MASK_5)
    return np.where(inside, -distance, distance)[reach:-reach, reach:-reach]
