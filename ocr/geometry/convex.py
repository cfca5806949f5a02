"""Intersections of convex quadrangles by array operations, all pairs at once."""

from __future__ import annotations

import numpy as np

TOUCH = 1e-9  # of a quadrangle's size: what lies nearer to an edge lies on it


def signed_areas(quads: np.ndarray) -> np.ndarray:
    """Shoelace formula, float64 (M,) of (M, 4, 2); negative where the corners run the other way round."""
    diagonals = quads[:, 2:] - quads[:, :2]
    return 0.5 * (diagonals[:, 0, 0] * diagonals[:, 1, 1] - diagonals[:, 0, 1] * diagonals[:, 1, 0])


def convex(quads: np.ndarray) -> np.ndarray:
    """bool (M,): finite, strictly convex and not crossing itself."""
    edges = np.roll(quads, -1, axis=1) - quads
    following = np.roll(edges, -1, axis=1)
    turns = edges[..., 0] * following[..., 1] - edges[..., 1] * following[..., 0]
    return ((turns > 0).all(axis=1) | (turns < 0).all(axis=1)) & np.isfinite(quads).all(axis=(1, 2))


def one_way_round(quads: np.ndarray) -> np.ndarray:
    """The same quadrangles with positive :func:`signed_areas`."""
    return np.where((signed_areas(quads) < 0)[:, None, None], quads[:, ::-1], quads)


def intersection_areas(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Areas of what pairs of convex quadrangles share.

    By Green's theorem the area is half the sum of x dy - y dx over the outline of the intersection, which consists of
    the parts of a's edges inside b and of b's edges inside a. Of edges that lie on one another and run the same way a's
    is taken, of such that run against each other, as where two quadrangles only touch, neither.

    Args:
        a, b: float64 (P, 4, 2) each, strictly convex, with positive :func:`signed_areas`.

    Returns:
        float64 (P,).
    """
    origin = a[:, :1]  # small numbers: x dy - y dx far from the origin loses digits
    a, b = a - origin, b - origin
    size = np.abs(np.concatenate([a, b], axis=1)).max(axis=(1, 2), initial=0)
    along_a, along_b = np.roll(a, -1, axis=1) - a, np.roll(b, -1, axis=1) - b
    same_way = np.einsum("pix,pjx->pij", along_a, along_b) > 0
    touch = (TOUCH * size)[:, None, None]
    total = _part_inside(a, along_a, b, along_b, np.where(same_way, -touch, touch))
    total += _part_inside(b, along_b, a, along_a, touch)
    return np.maximum(total, 0)


def _part_inside(
    starts: np.ndarray, along: np.ndarray, corners: np.ndarray, edges: np.ndarray, least: np.ndarray
) -> np.ndarray:
    """Half the sum of x dy - y dx over the parts of some edges that lie inside of others.

    Args:
        starts, along: of the edges, (P, 4, 2).
        corners, edges: of the quadrangles that they may lie in, likewise.
        least: how far inside, (P, 4, 4) or (P, 1, 1).
    """
    edges = edges / np.linalg.norm(edges, axis=2, keepdims=True)
    inside = _distances(starts, corners, edges)  # (P, edges, those of the others)
    at_start, at_end = inside - least, np.roll(inside, -1, axis=1) - least
    change = at_end - at_start
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = -at_start / change
    enters, leaves = change > 0, change < 0
    first = np.where(enters, crossing, 0).max(axis=2).clip(0, 1)
    last = np.where(leaves, crossing, 1).min(axis=2).clip(0, 1)
    last = np.where(((at_start < 0) & (at_end < 0)).any(axis=2) | (last < first), first, last)
    cross = starts[..., 0] * along[..., 1] - starts[..., 1] * along[..., 0]
    return 0.5 * (cross * (last - first)).sum(axis=1)


def _distances(points: np.ndarray, corners: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """How far points (P, 4, 2) lie inside of edges (P, 4, 2), float64 (P, points, edges)."""
    x = points[:, :, None, 0] - corners[:, None, :, 0]
    y = points[:, :, None, 1] - corners[:, None, :, 1]
    return edges[:, None, :, 0] * y - edges[:, None, :, 1] * x
