"""Training targets of Differentiable Binarization (Liao et al. 2020, section 3.4; 2022, section 3.5).

A text polygon is shrunk by a distance D to its kernel, and grown by the same D, see :mod:`ocr.geometry.offsets`;
between the two the threshold map falls linearly from its maximum on the outline to its minimum at distance D.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ocr.data.targets.borders import draw_borders
from ocr.errors import UserError
from ocr.geometry.offsets import check_ratio, short_side, shrink_distance
from ocr.geometry.outlines import areas, areas_and_perimeters, offset_polygons
from ocr.geometry.raster import fill
from ocr.geometry.rectangles import Rectangles

OUTLINE = 0.5  # pixels that a filled polygon is larger on each side than what was asked for
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
        kernels, owner = offset_polygons(texts, rectangles, -offset - np.clip((side - 2 * offset - 1) / 2, 0, OUTLINE))
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
        draw_borders(maps[THRESH_MAP], maps[THRESH_MASK], texts, rectangles, offset)
        return maps

    def _weights(self, areas: np.ndarray) -> np.ndarray:
        """Whole weights (M,) of kernels of some areas, from 1."""
        weights = (areas.mean() / np.maximum(areas, 1e-6)) ** self.balance
        return np.clip(np.rint(weights), 1, self.balance_limit).astype(int)


def _lengthened(rectangles: Rectangles, offsets: np.ndarray, reach: float) -> np.ndarray:
    """The texts' rectangles (M, 4, 2), longer by ``reach`` heights at both ends, lower by half of what kernels are."""
    length, height = rectangles.halves.T
    halves = np.stack([length + 2 * reach * height, np.maximum(height - offsets / 2, 0.5)], axis=1)
    return rectangles._replace(halves=halves).corners()
