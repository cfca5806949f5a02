"""Points as JSON has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ocr.data.index.report import Report
from ocr.types import Instance


def instance_or_report(points: Any, text: str, ignore: bool, where: Path, line: int, report: Report) -> Instance | None:
    """An Instance from ``[[x, y], ...]`` or ``[x1, y1, x2, y2, ...]``; None (counted) when they are no numbers."""
    try:
        polygon = np.asarray(points, np.float32)
        if polygon.ndim == 1 and polygon.size and polygon.size % 2 == 0:
            polygon = polygon.reshape(-1, 2)
        if polygon.ndim != 2 or polygon.shape[1] != 2:
            raise ValueError(f"shape {polygon.shape}")
    except (TypeError, ValueError) as error:
        report.add("unparsable_line", where, f"points of {text!r} are no list of [x, y] ({error})", line)
        return None
    return Instance(polygon, text, ignore, line)
