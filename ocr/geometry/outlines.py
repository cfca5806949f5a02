"""Outlines of texts moved inwards and outwards: in closed form where a text is a rectangle, by GEOS where it is not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely

from ocr.geometry.polygons import flatten, signed_area, to_shapely
from ocr.geometry.rectangles import Rectangles


def areas_and_perimeters(polygons: Sequence[np.ndarray], rectangles: Rectangles) -> tuple[np.ndarray, np.ndarray]:
    """Areas and perimeters, float64 (M,), of polygons (N, 2) that these rectangles stand for."""
    area, perimeter = 4 * rectangles.halves.prod(axis=1), 4 * rectangles.halves.sum(axis=1)
    others = np.flatnonzero(~rectangles.exact)
    if len(others):
        shapes = to_shapely(*flatten([polygons[k] for k in others.tolist()]))
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
    shapes = to_shapely(*flatten([polygons[k] for k in others.tolist()]))
    parts, of = shapely.get_parts(
        shapely.buffer(shapes, distances[others], join_style="mitre", quad_segs=2), return_index=True
    )
    points, part = shapely.get_coordinates(shapely.get_exterior_ring(parts), return_index=True)
    outlines += np.split(points, np.flatnonzero(np.diff(part)) + 1) if len(points) else []
    return outlines, np.concatenate([owner, others[of[np.unique(part)]]])


def areas(outlines: Sequence[np.ndarray], owner: np.ndarray) -> np.ndarray:
    """Area within the outlines of each owner, float64 (max(owner) + 1,)."""
    return np.bincount(owner, np.abs(signed_area(*flatten(outlines))))
