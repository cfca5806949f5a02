"""How far a text polygon is from its kernel: the offset that draws a kernel, and its inverses.

``ratio`` is the published pair: training shrinks by A (1 - r^2) / L (Liao et al. 2020, section 3.4) and inference grows
by A' u / L' (section 3.5), which is no inverse of it; u is a compromise between long and short text. ``exact`` solves
the first formula for the polygon, given the kernel. ``height`` has an offset that is a share of the shorter side, so
that kernels of long lines do not thin out to a sixth of their height.
"""

from __future__ import annotations

import numpy as np

from ocr.errors import UserError

SHRINKS = ("area", "height")
UNCLIPS = ("ratio", "exact", "height")


def short_side(area: np.ndarray, perimeter: np.ndarray) -> np.ndarray:
    """Shorter side of the rectangle that has this area and perimeter."""
    half = np.asarray(perimeter) / 2
    return (half - np.sqrt(np.maximum(half**2 - 4 * np.asarray(area), 0))) / 2


def shrink_distance(area: np.ndarray, perimeter: np.ndarray, shrink: str, amount: float) -> np.ndarray:
    """Distance in pixels from polygons to their kernels.

    Args:
        area, perimeter: of the polygons.
        shrink: ``area`` for A (1 - amount^2) / L, ``height`` for amount * shorter side.
        amount: the shrink ratio r, or the share.
    """
    if shrink == "height":
        return amount * short_side(area, perimeter)
    return np.asarray(area) * (1 - amount**2) / np.maximum(perimeter, 1e-6)


def unclip_distance(area: np.ndarray, perimeter: np.ndarray, unclip: str, amount: float) -> np.ndarray:
    """Distance in pixels from kernels to their polygons, these taken for rectangles.

    For ``exact``: a w' x h' kernel at distance D belongs to w = w' + 2D, h = h' + 2D, and D = w h k / (2 (w + h)) with
    k = 1 - r^2, hence D^2 (8 - 4k) + 2 D (w' + h') (1 - k) - k w' h' = 0.

    Args:
        area, perimeter: of the kernels.
        unclip: ``ratio``, ``exact`` or ``height``.
        amount: the unclip ratio u; the shrink ratio r, 0 < r < 1; or the share, below 0.5.
    """
    if unclip == "ratio":
        return area * amount / perimeter
    if unclip == "height":
        return short_side(area, perimeter) * amount / (1 - 2 * amount)
    k = 1 - amount**2
    a, b, c = 8 - 4 * k, perimeter * (1 - k), -k * area
    return (-b + (b * b - 4 * a * c) ** 0.5) / (2 * a)


def check_amount(owner: str, kind: str, kinds: tuple[str, ...], amount: float) -> None:
    """Raise UserError where a kind of offset is unknown or its amount out of range."""
    if kind not in kinds:
        raise UserError(f"{owner} must be one of {', '.join(kinds)}, got {kind!r}")
    limit = {"area": 1.0, "exact": 1.0, "height": 0.5}.get(kind, float("inf"))
    if isinstance(amount, bool) or not isinstance(amount, (int, float)) or not 0 < amount < limit:
        raise UserError(f"{owner}={kind} needs a ratio between 0 and {limit:g}, got {amount!r}")
