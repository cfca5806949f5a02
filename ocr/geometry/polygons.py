"""Checks and normal form of labelled polygons, for many polygons at once.

Polygons of different lengths are kept flat: ``points`` float32 (P, 2) and ``offsets`` int64 (M + 1,), polygon m
being ``points[offsets[m]:offsets[m + 1]]``.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import shapely

MIN_AREA = 1.0  # square pixels; nothing smaller can be seen, let alone found


def flatten(polygons: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """List of (N, 2) arrays to (points float32 (P, 2), offsets int64 (M + 1,))."""
    offsets = np.zeros(len(polygons) + 1, np.int64)
    np.cumsum([len(p) for p in polygons], out=offsets[1:])
    points = np.concatenate(polygons).astype(np.float32) if len(polygons) else np.zeros((0, 2), np.float32)
    return points, offsets


def unflatten(points: np.ndarray, offsets: np.ndarray) -> list[np.ndarray]:
    """Inverse of :func:`flatten`."""
    return [points[a:b] for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist())]


def to_shapely(polygons: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays (N, 2), N >= 3, to an object array of shapely Polygons."""
    if not len(polygons):
        return np.zeros(0, object)
    owner = np.repeat(np.arange(len(polygons)), [len(p) for p in polygons])
    rings = shapely.linearrings(np.concatenate(polygons).astype(np.float64), indices=owner)
    return np.atleast_1d(shapely.polygons(rings))


def signed_areas(polygons: Sequence[np.ndarray]) -> np.ndarray:
    """Areas float64 (M,) of arrays (N, 2), N >= 1, by the shoelace formula; positive for clockwise on screen."""
    if not len(polygons):
        return np.zeros(0)
    points, offsets = flatten(polygons)
    p = points.astype(np.float64)
    following = np.arange(len(p)) + 1
    following[offsets[1:] - 1] = offsets[:-1]
    cross = p[:, 0] * p[following, 1] - p[following, 0] * p[:, 1]
    return np.add.reduceat(cross, offsets[:-1]) / 2


def normal_form(polygon: np.ndarray) -> np.ndarray:
    """Clockwise on screen, starting at the corner nearest the top left (least x + y), no repeated points.

    From (N, 2), any start and direction, possibly closed, to float32 (K, 2) with K <= N; fewer than three points when
    the input has no more distinct ones.
    """
    polygon = np.asarray(polygon, np.float32).reshape(-1, 2)
    if len(polygon) > 1:
        polygon = polygon[np.any(polygon != np.roll(polygon, 1, axis=0), axis=1)]
    if len(polygon) < 3:
        return polygon
    if signed_areas([polygon])[0] < 0:
        polygon = polygon[::-1]
    start = int(np.argmin(polygon.sum(axis=1)))
    return np.ascontiguousarray(np.roll(polygon, -start, axis=0))


def normal_quads(quads: np.ndarray, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """The usual case at once: which quads are sound as they stand, and their normal form.

    Args:
        quads: float32 (M, 4, 2).
        width, height: of the image.

    Returns:
        sound: bool (M,), finite, strictly convex, at least :data:`MIN_AREA`, inside the image.
        normal: float32 (M, 4, 2), as :func:`normal_form` gives it where sound.
    """
    edges = np.roll(quads, -1, axis=1) - quads
    following = np.roll(edges, -1, axis=1)
    turns = edges[..., 0] * following[..., 1] - edges[..., 1] * following[..., 0]
    convex = (turns > 0).all(axis=1) | (turns < 0).all(axis=1)
    diagonals = quads[:, 2:] - quads[:, :2]
    area = 0.5 * np.abs(diagonals[:, 0, 0] * diagonals[:, 1, 1] - diagonals[:, 0, 1] * diagonals[:, 1, 0])
    inside = (quads >= 0).all(axis=(1, 2)) & (quads <= (width, height)).all(axis=(1, 2))
    sound = convex & inside & (area >= MIN_AREA)  # NaN compares false
    normal = np.where((turns < 0).any(axis=1)[:, None, None], quads[:, ::-1], quads)
    start = normal.sum(axis=2).argmin(axis=1)
    order = (start[:, None] + np.arange(4)) % 4
    return sound, np.take_along_axis(normal, order[..., None], axis=1)


def untangle_quad(polygon: np.ndarray) -> np.ndarray:
    """Four corners in a crossing order to the order around their centre (clockwise on screen)."""
    centre = polygon.mean(axis=0)
    angle = np.arctan2(polygon[:, 1] - centre[1], polygon[:, 0] - centre[0])
    return normal_form(polygon[np.argsort(angle, kind="stable")])


def clip_to_image(polygon: np.ndarray, width: int, height: int) -> np.ndarray | None:
    """The part of a valid polygon inside the image, its largest piece; None when there is none."""
    inside = shapely.intersection(shapely.Polygon(polygon), shapely.box(0, 0, width, height))
    pieces = [g for g in shapely.get_parts(inside) if isinstance(g, shapely.Polygon) and g.area >= MIN_AREA]
    if not pieces:
        return None
    outline = shapely.get_coordinates(max(pieces, key=lambda g: g.area).exterior)
    return normal_form(np.clip(outline, 0, (width, height)))  # GEOS leaves corners 1e-13 outside


def to_valid_shapely(polygons: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays (N, 2) to an object array of valid shapely Polygons; a shape without area becomes an empty one."""
    usable = [i for i, p in enumerate(polygons) if len(p) >= 3 and np.isfinite(p).all()]
    shapes = np.full(len(polygons), shapely.Polygon(), object)
    drawn = to_shapely([polygons[i] for i in usable])
    wrong = ~shapely.is_valid(drawn)
    drawn[wrong] = shapely.buffer(drawn[wrong], 0)
    shapes[usable] = drawn
    return shapes


def aspect_ratios(polygons: Sequence[np.ndarray]) -> np.ndarray:
    """Width / height, float64 (M,): mean opposite sides of quads; of others, of the minimum-area rectangle."""
    ratios = np.ones(len(polygons))
    quads = [k for k, p in enumerate(polygons) if len(p) == 4]
    if quads:
        corners = np.stack([polygons[k] for k in quads]).astype(np.float64)
        start = corners.sum(axis=2).argmin(axis=1)
        corners = np.take_along_axis(corners, ((start[:, None] + np.arange(4)) % 4)[..., None], axis=1)
        sides = np.linalg.norm(np.roll(corners, -1, axis=1) - corners, axis=2)
        pairs = sides[:, :2] + sides[:, 2:]
        x_first = np.abs(corners[:, 1] - corners[:, 0])  # the first side is the horizontal one when clockwise
        flip = x_first[:, 1] > x_first[:, 0]
        across = np.where(flip[:, None], pairs[:, ::-1], pairs) / 2
        ratios[quads] = (across[:, 0] + 1e-5) / (across[:, 1] + 1e-5)
    for k, polygon in enumerate(polygons):
        if len(polygon) != 4:
            (_, (w, h), angle) = cv2.minAreaRect(np.asarray(polygon, np.float32))
            w, h = (h, w) if 45 < angle % 180 < 135 else (w, h)
            ratios[k] = (w + 1e-5) / (h + 1e-5)
    return ratios


def overlapping_polygons(polygons: Sequence[np.ndarray], fraction: float = 0.5) -> list[int]:
    """Places of polygons (N, 2) that share more than a fraction of their area with a larger one."""
    shapes = to_valid_shapely(polygons)
    tree = shapely.STRtree(shapes)
    a, b = tree.query(shapes, predicate="intersects")
    area = shapely.area(shapes)
    smaller = (area[a] < area[b]) | ((area[a] == area[b]) & (a > b))
    a, b = a[smaller], b[smaller]
    shared = shapely.area(shapely.intersection(shapes[a], shapes[b]))
    return sorted(set(a[shared > fraction * area[a]].tolist()))
