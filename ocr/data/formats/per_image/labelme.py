"""labelme and X-AnyLabeling: ``<stem>.json`` per image, ``{"shapes": [{"label", "points", "shape_type"}, ...]}``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ocr.data.formats.files import as_object, is_flagged, is_ignored, is_true, json_or_report, list_images
from ocr.data.formats.manifest import Entry, ImageFinder, Row, labelled, samples_of, stated_size
from ocr.data.formats.pairing import label_files
from ocr.data.formats.shapes import NO_NUMBERS, ellipse, with_corners
from ocr.data.index.report import Report
from ocr.types import Sample

SUFFIXES = (".json",)
FILE = "{stem}.json"
HAS_CATEGORIES = True
AREAS = ("polygon", "rectangle", "rotation", "quadrilateral", "circle")  # shapes that enclose something


def matches(path: Path, content: Any) -> bool:
    """Whether a JSON file has a list of shapes."""
    return isinstance(content, dict) and isinstance(content.get("shapes"), list)


def read(
    images: Path, annotations: Path, ids: Sequence[str] | None, report: Report, categories: Sequence[str] | None = None
) -> Iterator[Sample]:
    """Samples of a folder of labelme files, see :mod:`ocr.data.formats`.

    The image is the one that ``imagePath`` names where it is there, else that of the same stem. The text is the
    ``description`` where there is one, else the ``label``; ``difficult`` and such flags mark text to ignore.
    """
    finder = ImageFinder(list_images(images))
    rows = []
    for stem, labels in label_files(annotations, ".json").items():
        data = json_or_report(labels, report)
        if not matches(labels, data):
            if isinstance(data, dict) and "imagePath" in data:
                report.add("unparsable_line", labels, "no list of shapes")
            continue
        named = data.get("imagePath")
        name = named if isinstance(named, str) and len(finder.find(named)) == 1 else stem
        entries = [_entry(as_object(shape), k) for k, shape in enumerate(data["shapes"], start=1)]
        rows.append(Row(name, entries, 0, stated_size(data, "imageWidth", "imageHeight"), labels))
    return samples_of(rows, images, annotations, ids, report, categories)


def _entry(shape: dict[str, Any], number: int) -> Entry:
    category = str(shape.get("label") or "")
    text = str(shape.get("description") or category)
    kind = shape.get("shape_type") or "polygon"
    if kind not in AREAS:
        fault = f"{text!r} is a {kind}, which encloses no text"
        return Entry(line=number, category=category, fault=fault)
    difficult = is_true(shape.get("difficult")) or is_flagged(shape.get("flags"))
    points = shape.get("points")
    points = _circle(points) if kind == "circle" else with_corners(points) if kind == "rectangle" else points
    detail = repr(text) if difficult else ""
    return Entry(points, text, difficult or is_ignored(text), number, category, detail)


def _circle(points: Any) -> Any:
    """A polygon for labelme's centre and a point on the rim."""
    try:
        (x, y), (rim_x, rim_y) = points
        radius = math.hypot(rim_x - x, rim_y - y)
    except NO_NUMBERS:
        return points
    return ellipse(x, y, radius, radius, 0)


def write(lines: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """Write one image's labels; labelme opens the file beside the image."""
    [line], [name] = lines, names
    shapes = [
        {"label": "###" if skip else text or "text", "points": polygon, "group_id": None, "description": "",
         "shape_type": "polygon", "flags": {}}
        for polygon, text, skip in labelled(line)
    ]  # fmt: skip
    content = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": Path(name).name, "imageData": None,
               "imageHeight": line["height"], "imageWidth": line["width"]}  # fmt: skip
    return json.dumps(content, ensure_ascii=False)
