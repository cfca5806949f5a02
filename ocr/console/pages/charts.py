"""Curves as SVG, without script or inline style: the page's style sheet colours them by their class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 220, 56, 28, 10


def line_chart(title: str, curves: Mapping[str, Sequence[tuple[float, float]]]) -> Markup:
    """Curves over one another with their axes; a line that says so where there is nothing to draw.

    Args:
        title: of the metric, for the axis and for screen readers.
        curves: (step, value) by the name of the curve; values that are not finite are left out.
    """
    finite = {name: [p for p in points if math.isfinite(p[1])] for name, points in curves.items()}
    points = [point for curve in finite.values() for point in curve]
    if not points:
        return Markup('<p class="empty">{}: no values yet</p>').format(title)
    low, high = min(y for _, y in points), max(y for _, y in points)
    low, high = (low, low + 1) if low == high else (low, high)
    last = max(max(x for x, _ in points), 1.0)
    across, up = WIDTH - LEFT - 10, HEIGHT - BOTTOM - TOP

    def place(x: float, y: float) -> str:
        return f"{LEFT + x / last * across:.1f},{TOP + (high - y) / (high - low) * up:.1f}"

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" class="chart" aria-label="{escape(title)}">']
    parts.append(f"<title>{escape(title)}: {points[-1][1]:.4g} at step {points[-1][0]:g}</title>")
    for share in (0.0, 0.5, 1.0):
        height, value = TOP + (1 - share) * up, low + share * (high - low)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 10}" y1="{height:.1f}" y2="{height:.1f}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{height + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 8}">0</text>')
    parts.append(f'<text x="{WIDTH - 10}" y="{HEIGHT - 8}" text-anchor="end">step {last:g}</text>')
    for k, (name, curve) in enumerate(finite.items()):
        if len(curve) == 1:
            x, _, y = place(*curve[0]).partition(",")
            parts.append(f'<circle cx="{x}" cy="{y}" r="3" class="curve-{k % 6}"/>')
        line = " ".join(place(*point) for point in curve)
        parts.append(f'<polyline points="{line}" class="curve curve-{k % 6}"><title>{escape(name)}</title></polyline>')
    return Markup("".join([*parts, "</svg>"]))  # noqa: S704  (its texts are escaped above)
