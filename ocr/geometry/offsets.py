"""Distance between a text polygon and its kernel: the offset that shrinks, and its inverses.

``ratio`` is the published pair: training shrinks by A (1 - r^2) / L (Liao et al. 2020, section 3.4) and inference grows
by A' u / L' (section 3.5), which is no inverse of it; u is a compromise between long and short text. ``exact`` solves
the first formula for the polygon, given the kernel.
"""

from __future__ import annotations

import numpy as np

from ocr.errors import UserError

UNCLIPS = ("ratio", "exact")


def short_side(area: np.ndarray, perimeter: np.ndarray) -> np.ndarray:
    """Shorter side of the rectangle that has this area and perimeter."""
    half = np.asarray(perimeter) / 2
    return (half - np.sqrt(np.maximum(half**2 - 4 * np.asarray(area), 0))) / 2


def shrink_distance(area: np.ndarray, perimeter: np.ndarray, shrink_ratio: float) -> np.ndarray:
    """Distance A (1 - r^2) / L in pixels from polygons of area A and perimeter L to their kernels."""
    return np.asarray(area) * (1 - shrink_ratio**2) / np.maximum(perimeter, 1e-6)


def unclip_distance(area: np.ndarray, perimeter: np.ndarray, unclip: str, amount: float) -> np.ndarray:
    """Distance in pixels from kernels to their polygons, these taken for rectangles.

    For ``exact``: a w' x h' kernel at distance D belongs to w = w' + 2D, h = h' + 2D, and D = w h k / (2 (w + h)) with
    k = 1 - r^2, hence D^2 (8 - 4k) + 2 D (w' + h') (1 - k) - k w' h' = 0.

    Args:
        area, perimeter: of the kernels.
        unclip: ``ratio`` or ``exact``.
        amount: the unclip ratio u; or the shrink ratio r, 0 < r < 1.
    """
    if unclip == "ratio":
        return area * amount / perimeter
    k = 1 - amount**2
    a, b, c = 8 - 4 * k, perimeter * (1 - k), -k * area
    return (-b + (b * b - 4 * a * c) ** 0.5) / (2 * a)


def check_unclip(owner: str, unclip: str, ratio: float) -> None:
    """Raise UserError where the kind of unclipping is unknown or its ratio out of range."""
    if unclip == "height":
        raise UserError(f"{owner}=height was removed: the stored kernels would not fit: train with today's targets")
    if unclip not in UNCLIPS:
        raise UserError(f"{owner} must be one of {', '.join(UNCLIPS)}, got {unclip!r}")
    check_ratio(f"{owner}={unclip} needs", ratio, 1.0 if unclip == "exact" else float("inf"))


def check_ratio(owner: str, ratio: float, limit: float) -> None:
    """Raise UserError unless a ratio is a number above 0 and below a limit."""
    if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 < ratio < limit:
        raise UserError(f"{owner} a ratio between 0 and {limit:g}, got {ratio!r}")
