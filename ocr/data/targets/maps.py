"""Training targets of Differentiable Binarization (Liao et al. 2020, section 3.4; 2022, section 3.5).

A text polygon is shrunk by a distance D to its kernel, and grown by the same D, see :mod:`ocr.geometry.offsets`;
between the two the threshold map falls linearly from its maximum on the outline to its minimum at distance D.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ocr.errors import UserError
from ocr.geometry.offsets import check_ratio, short_side, shrink_distance
from ocr.geometry.raster import SUBPIXEL_BITS, fill, fixed_point
from ocr.geometry.rectangles import Rectangles, areas, areas_and_perimeters, offset_polygons

OUTLINE_PIXELS = 0.5  # that a filled polygon is larger on each side than what was asked for
SHRINK_MAP, SHRINK_MASK, THRESH_MAP, THRESH_MASK = range(4)  # channels of the target array


@dataclass(frozen=True)
class TargetMaker:
    """Draws the four target maps of one image.

    Attributes:
        shrink_ratio: r, 0 < r < 1 (0.4 in DB).
        min_text_size: text whose shorter side is below this many network pixels is masked, not learned.
        end_weight: weight of the background beyond both ends of a text, a whole number from 1. Few pixels lie between
            neighbours on a line, and whether these become one contour hangs on them.
        end_reach: how far that goes, in heights of the text.
        balance: how much more a pixel of a small text weighs, its surroundings included: (mean kernel area / area of
            its kernel) ** balance, rounded. 0 for pixels alike; 1 is the balance of PixelLink (Deng et al. 2018,
            section 3.3.2), where all instances of an image count alike.
        balance_limit: the largest such weight, a whole number from 1.
    """

    shrink_ratio: float
    min_text_size: float
    end_weight: int = 1
    end_reach: float = 0.75
    balance: float = 0.0
    balance_limit: int = 4

    def __post_init__(self) -> None:
        check_ratio("data.targets.shrink_ratio must be", self.shrink_ratio, 1.0)
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
            fill(maps[SHRINK_MASK], [valid], 1)
        ignored = np.asarray(ignore, bool).tolist()
        masked = [p for p, out in zip(polygons, ignored) if out]
        texts = [p for p, out in zip(polygons, ignored) if not out]
        rectangles = Rectangles.of(texts)
        area, perimeter = areas_and_perimeters(texts, rectangles)
        side, offset = short_side(area, perimeter), shrink_distance(area, perimeter, self.shrink_ratio)
        # cv2 fills the pixels that an outline touches, too: half a pixel less, so that a kernel of three has no fourth
        inset = np.clip((side - 2 * offset - 1) / 2, 0, OUTLINE_PIXELS)
        kernels, owner = offset_polygons(texts, rectangles, -offset - inset)
        learned = (side >= self.min_text_size) & (np.bincount(owner, minlength=len(texts)) > 0)
        kept = np.flatnonzero(learned)
        masked += [texts[k] for k in np.flatnonzero(~learned)]
        texts, rectangles, offset = [texts[k] for k in kept], rectangles.at(kept), offset[kept]

        fill(maps[SHRINK_MAP], [outline for outline, k in zip(kernels, owner) if learned[k]], 1)
        if self.balance > 0 and texts:
            weights = self._weights(areas(kernels, owner)[kept])
            grown, owner = offset_polygons(texts, rectangles, offset)
            region = np.zeros((height, width), np.uint8)
            for weight in range(2, self.balance_limit + 1):  # where two meet, the larger weight holds
                fill(region, [outline for outline, k in zip(grown, owner) if weights[k] == weight], weight)
            maps[SHRINK_MASK] = np.maximum(maps[SHRINK_MASK], region * maps[SHRINK_MASK])
        if self.end_weight > 1:
            ends = np.zeros((height, width), np.uint8)
            fill(ends, [*_lengthened(rectangles, offset, self.end_reach)], self.end_weight)
            ends *= (maps[SHRINK_MASK] > 0) & (maps[SHRINK_MAP] == 0)
            np.maximum(maps[SHRINK_MASK], ends, out=maps[SHRINK_MASK])
        fill(maps[SHRINK_MASK], masked, 0)
        _draw_borders(maps[THRESH_MAP], maps[THRESH_MASK], texts, rectangles, offset)
        return maps

    def _weights(self, areas: np.ndarray) -> np.ndarray:
        """Whole weights (M,) of kernels of some areas, from 1."""
        weights = (areas.mean() / np.maximum(areas, 1e-6)) ** self.balance
        return np.clip(np.rint(weights), 1, self.balance_limit).astype(int)


def _lengthened(rectangles: Rectangles, offsets: np.ndarray, reach: float) -> np.ndarray:
    """Lengthen rectangles (M, 4, 2) by ``reach`` heights at both ends; lower them by half of what kernels are."""
    length, height = rectangles.halves.T
    halves = np.stack([length + 2 * reach * height, np.maximum(height - offsets / 2, 0.5)], axis=1)
    return rectangles._replace(halves=halves).corners()


def _draw_borders(
    thresh_map: np.ndarray, thresh_mask: np.ndarray, polygons: Sequence[np.ndarray], rectangles: Rectangles,
    offsets: np.ndarray,
) -> None:  # fmt: skip
    """Add M instances to the threshold map and mask, in place, each on its bounding box only; the largest value holds.

    Their offsets are float64 (M,), pixels.
    """
    windows = _windows(rectangles, offsets, *thresh_map.shape)
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
    """Distances for any polygon, float32 in pixels, by a distance transform.

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
