"""Text polygons as rectangles, which most labels are: areas and offsets in closed form; by GEOS for the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import shapely

from ocr.geometry.polygons import signed_areas, to_shapely

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
        """Select rectangles by indices, int (K,)."""
        return Rectangles(*(values[indices] for values in self))

    def corners(self) -> np.ndarray:
        """float64 (M, 4, 2), around the rectangle."""
        return self.centres[:, None] + UNIT_SQUARE @ (self.axes * self.halves[..., None])


def _minimum_area(polygon: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre, axes and half sides of the least rectangle around a polygon."""
    centre, sides, angle = cv2.minAreaRect(np.asarray(polygon, np.float32))
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    return np.array(centre), np.array([[cos, sin], [-sin, cos]]), np.array(sides) / 2


def areas_and_perimeters(polygons: Sequence[np.ndarray], rectangles: Rectangles) -> tuple[np.ndarray, np.ndarray]:
    """Areas and perimeters, float64 (M,), of polygons (N, 2) that these rectangles stand for."""
    area, perimeter = 4 * rectangles.halves.prod(axis=1), 4 * rectangles.halves.sum(axis=1)
    others = np.flatnonzero(~rectangles.exact)
    if len(others):
        shapes = to_shapely([polygons[k] for k in others.tolist()])
        area[others], perimeter[others] = shapely.area(shapes), shapely.length(shapes)
    return area, perimeter


def offset_polygons(
    polygons: Sequence[np.ndarray], rectangles: Rectangles, distances: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray]:
    """Outlines whose sides lie a distance further out, or in where it is negative, and meet in points.

    Args:
        polygons: float (N, 2) each, M of them.
        rectangles: of the polygons.
        distances: float64 (M,), pixels.

    Returns:
        float64 (K, 2) each, and whose they are, int (P,): nothing is left of a polygon that is moved too far in, and
        two outlines may be left of one.
    """
    halves = rectangles.halves + distances[:, None]
    left = rectangles.exact & (halves > 0).all(axis=1)
    outlines, owner = list(rectangles._replace(halves=halves).corners()[left]), np.flatnonzero(left)
    others = np.flatnonzero(~rectangles.exact)
    if not len(others):
        return outlines, owner
    shapes = to_shapely([polygons[k] for k in others.tolist()])
    with np.errstate(divide="ignore", invalid="ignore"):  # GEOS sets their flags on its way to a sound result
        offset = shapely.buffer(shapes, distances[others], join_style="mitre", quad_segs=2)
    parts, of = shapely.get_parts(offset, return_index=True)
    points, part = shapely.get_coordinates(shapely.get_exterior_ring(parts), return_index=True)
    outlines += np.split(points, np.flatnonzero(np.diff(part)) + 1) if len(points) else []
    return outlines, np.concatenate([owner, others[of[np.unique(part)]]])


def areas(outlines: Sequence[np.ndarray], owner: np.ndarray) -> np.ndarray:
    """Area within the outlines of each owner, float64 (max(owner) + 1,)."""
    return np.bincount(owner, np.abs(signed_areas(outlines)))
