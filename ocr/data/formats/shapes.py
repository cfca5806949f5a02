"""Points, boxes and ellipses as label files have them."""

from __future__ import annotations

from typing import Any

import numpy as np

RELATIVE_LIMIT = 1.5  # coordinates up to that are fractions of the image: a text is longer than that many pixels
ELLIPSE_POINTS = 16  # of the polygon that stands for one
NO_NUMBERS = (TypeError, ValueError, OverflowError)  # what numbers and arrays raise of other things, or of huge ones


def with_corners(points: Any) -> Any:
    """Points as they are; two of them, or four numbers, as opposite corners of an upright box."""
    values = as_numbers(points)
    return box(*values.ravel()) if values is not None and values.shape in ((2, 2), (4,)) else points


def as_numbers(points: Any) -> np.ndarray | None:
    """Nested lists of numbers as float64 of any shape; None where they are ragged or hold other things."""
    try:
        return np.asarray(points, np.float64)
    except NO_NUMBERS:
        return None


def box(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    """Corners of an upright box, float32 (4, 2)."""
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32)


def rotated_box(
    x: float, y: float, width: float, height: float, degrees: float, about: tuple[float, float]
) -> np.ndarray:
    """Corners of a box turned clockwise as seen on screen, float32 (4, 2).

    Args:
        x, y, width, height: of the box before it is turned.
        degrees: of the turn.
        about: the point that stays.
    """
    corners = box(x, y, x + width, y + height).astype(np.float64) - about
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return (corners @ np.array([[cos, sin], [-sin, cos]]) + about).astype(np.float32)


def ellipse(cx: float, cy: float, rx: float, ry: float, degrees: float) -> np.ndarray:
    """An ellipse turned clockwise as seen on screen, as a polygon, float32 (N, 2)."""
    angles, turn = np.arange(ELLIPSE_POINTS) * 2 * np.pi / ELLIPSE_POINTS, np.deg2rad(degrees)
    along, across = rx * np.cos(angles), ry * np.sin(angles)
    xs = cx + along * np.cos(turn) - across * np.sin(turn)
    ys = cy + along * np.sin(turn) + across * np.cos(turn)
    return np.stack([xs, ys], axis=1).astype(np.float32)
