"""docTR detection sets: ``labels.json``, ``{name: {"img_dimensions", "polygons": [[[x, y] x 4], ...]}}``.

``polygons`` may also be ``{class name: [...]}``. docTR has no ignore mark.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ocr.data.formats.files import as_object, read_json
from ocr.data.formats.manifest import Entry, Row, labelled, stated_size
from ocr.data.formats.shapes import RELATIVE_LIMIT, as_numbers, with_corners
from ocr.data.index.report import Report
from ocr.errors import UserError
from ocr.types import RELATIVE

SUFFIXES = (".json",)
FILE = "labels.json"
MARKS_IGNORED = False
HAS_CATEGORIES = True
HAS_TEXTS = False
ORDERS = ((0, 1), (1, 0))  # places of width and height in img_dimensions


def matches(path: Path, content: Any) -> bool:
    """Whether a JSON file has polygons by image name."""
    entries = content.values() if isinstance(content, dict) else ()
    return 2 * sum(isinstance(v, dict) and "polygons" in v for v in entries) > len(entries)


def rows(labels: Path, report: Report) -> Iterator[Row]:
    """Rows of a ``labels.json``."""
    entries = read_json(labels)
    if not isinstance(entries, dict):
        raise UserError(f"{labels}: expected {{image name: {{...}}}}, got a {type(entries).__name__}")
    order = _dimension_order(entries)
    for number, (name, entry) in enumerate(entries.items(), start=1):
        classes = _polygons_by_class(entry)
        if classes is None:
            report.add("unparsable_line", labels, f"{name}: no list of polygons", number)
            continue
        polygons = [polygon for group in classes.values() for polygon in group]
        relative = bool(polygons) and _is_relative(polygons)
        size = RELATIVE if relative else stated_size(entry.get("img_dimensions"), *(order or ORDERS[0]))
        texts = [Entry(polygon, category=category) for category, group in classes.items() for polygon in group]
        yield Row(name, texts, number, size, either_order=order is None)


def _polygons_by_class(entry: Any) -> dict[str, list[Any]] | None:
    """Polygons by class name (empty where there are no classes); None where there is no list."""
    polygons = as_object(entry).get("polygons")
    classes: dict[str, Any] = polygons if isinstance(polygons, dict) else {"": polygons}
    if not all(isinstance(group, list) for group in classes.values()):
        return None
    return {name: [with_corners(polygon) for polygon in group] for name, group in classes.items()}


def _dimension_order(entries: dict[str, Any]) -> tuple[int, int] | None:
    """The order of ``img_dimensions``, by the polygons that reach beyond; None where nothing tells.

    docTR does not read them, and its own scripts and others write them in either order.
    """
    beyond = [0, 0]
    for entry in entries.values():
        sizes = [stated_size(as_object(entry).get("img_dimensions"), *order) for order in ORDERS]
        polygons = [polygon for group in (_polygons_by_class(entry) or {}).values() for polygon in group]
        if sizes[0] and polygons and not _is_relative(polygons):
            arrays = [as_numbers(polygon) for polygon in polygons]
            points = [p.reshape(-1, 2) for p in arrays if p is not None and p.size and p.shape[-1:] == (2,)]
            reach = np.max([p.max(axis=0) for p in points], axis=0) if points else np.zeros(2)
            for k, size in enumerate(sizes):
                beyond[k] += bool((reach > np.array(size) + 1).any())
    return None if beyond[0] == beyond[1] else ORDERS[beyond[0] > beyond[1]]


def _is_relative(polygons: list[Any]) -> bool:
    """Whether all coordinates lie in 0..1 or hardly beyond, as those of a polygon in pixels never do."""
    arrays = [as_numbers(polygon) for polygon in polygons]
    if any(array is None for array in arrays):
        return False
    values = np.concatenate([array.ravel() for array in arrays if array is not None])
    return bool(len(values) and (np.abs(values) <= RELATIVE_LIMIT).all())


def write(lines: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """DocTR's ``labels.json``; ``img_dimensions`` are width and height, ``img_hash`` is left out."""
    content = {
        name: {
            "img_dimensions": [line["width"], line["height"]],
            "polygons": [p for p, _, ignore in labelled(line) if not ignore],
        }
        for line, name in zip(lines, names)
    }
    return json.dumps(content, ensure_ascii=False)
