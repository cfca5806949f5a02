"""Text polygons as rectangles: what most labels are, and what goes for the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

RECTANGLE_TOLERANCE = 0.25  # pixels that the corners of a quadrangle may be off those of a rectangle that stands for it
WORD_ASPECT = 2  # below this a quadrangle is read along its first edge, from here on along its longer side
UNIT_SQUARE = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])


class Rectangles(NamedTuple):
    """Rectangles that stand for polygons.

    Attributes:
        centres: float64 (M, 2).
        axes: float64 (M, 2, 2), unit vectors: along the text, in either direction, and across it.
        halves: float64 (M, 2), half of the length and of the height.
        exact: bool (M,), whether each corner of the polygon is within :data:`RECTANGLE_TOLERANCE` of the rectangle's.
    """

    centres: np.ndarray
    axes: np.ndarray
    halves: np.ndarray
    exact: np.ndarray

    @classmethod
    def of(cls, polygons: Sequence[np.ndarray]) -> Rectangles:
        """Rectangles of polygons float (N, 2): of quads by the middles of their sides, of others of minimum area."""
        four = np.array([len(p) == 4 for p in polygons], bool)
        quads = np.zeros((len(polygons), 4, 2))
        if four.any():
            quads[four] = [p for p in polygons if len(p) == 4]
        centres = quads.mean(axis=1)
        sides = np.stack([quads[:, 1] + quads[:, 2], quads[:, 2] + quads[:, 3]], axis=1) / 2 - centres[:, None]
        halves = np.linalg.norm(sides, axis=2)
        first = sides[:, 0] / np.maximum(halves[:, :1], 1e-6)
        axes = np.stack([first, first[:, ::-1] * (-1, 1)], axis=1)
        away = np.abs(cls(centres, axes, halves, four).corners() - quads).max(axis=(1, 2), initial=0)
        exact = four & (away <= RECTANGLE_TOLERANCE) & (halves.min(axis=1, initial=np.inf) > 0)
        for k in np.flatnonzero(~exact).tolist():
            centres[k], axes[k], halves[k] = _minimum_area(polygons[k])
        top = np.abs(axes @ (quads[:, 1] - quads[:, 0])[..., None])[..., 0]
        word = four & (halves.max(axis=1, initial=0) < WORD_ASPECT * halves.min(axis=1, initial=np.inf))
        by = np.where(word[:, None], top, halves)  # a digit is higher than wide
        turned = by[:, 1] > by[:, 0]
        axes[turned], halves[turned] = axes[turned, ::-1], halves[turned, ::-1]
        return cls(centres, axes, halves, exact)

    def at(self, indices: np.ndarray) -> Rectangles:
        """Those at some places, int (K,)."""
        return Rectangles(*(values[indices] for values in self))

    def corners(self) -> np.ndarray:
        """float64 (M, 4, 2), around the rectangle."""
        return self.centres[:, None] + UNIT_SQUARE @ (self.axes * self.halves[..., None])


def _minimum_area(polygon: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre, axes and half sides of the least rectangle around a polygon."""
    centre, sides, angle = cv2.minAreaRect(np.asarray(polygon, np.float32))
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    return np.array(centre), np.array([[cos, sin], [-sin, cos]]), np.array(sides) / 2
