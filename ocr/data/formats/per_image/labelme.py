"""labelme and X-AnyLabeling: ``<stem>.json`` per image, ``{"shapes": [{"label", "points", "shape_type"}, ...]}``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ocr.data.formats.files import IGNORED_TEXTS, instance_or_report, pair_by_stem, read_json, with_corners
from ocr.data.formats.manifest import labelled, stated_size
from ocr.data.index.report import Report
from ocr.errors import UserError
from ocr.types import Sample

SUFFIXES = (".json",)
FILE = "{stem}.json"
AREAS = ("polygon", "rectangle", "rotation", "quadrilateral", "circle")  # shapes that enclose something
CIRCLE_POINTS = 16


def matches(path: Path, content: Any) -> bool:
    """Whether a JSON file has a list of shapes."""
    return isinstance(content, dict) and isinstance(content.get("shapes"), list)


def naming(annotations: Path) -> tuple[str, str]:
    """(suffix, optional prefix) of the label files."""
    return ".json", ""


def read(images: Path, annotations: Path, ids: Sequence[str] | None, report: Report) -> Iterator[Sample]:
    """Samples of a folder of labelme files, see :mod:`ocr.data.formats`.

    The text is the ``description`` where there is one, else the ``label``; ``difficult`` marks text to ignore.
    """
    for image, labels in pair_by_stem(images, annotations, *naming(annotations), ids, report):
        try:
            data = read_json(labels)
        except UserError as error:
            report.add("unparsable_line", labels, str(error).removeprefix(f"{labels}: "))
            continue
        if not matches(labels, data):
            report.add("unparsable_line", labels, "no list of shapes")
            continue
        instances = []
        for number, shape in enumerate(data["shapes"], start=1):
            shape = shape if isinstance(shape, dict) else {}
            text = str(shape.get("description") or shape.get("label") or "")
            kind = shape.get("shape_type") or "polygon"
            if kind not in AREAS:
                report.add("unparsable_line", labels, f"{text!r} is a {kind}, which encloses no text", number)
                continue
            difficult = shape.get("difficult") is True
            if difficult:
                report.add("difficult", labels, repr(text), number)
            points = shape.get("points")
            points = _circle(points) if kind == "circle" else with_corners(points) if kind == "rectangle" else points
            ignore = difficult or text in IGNORED_TEXTS
            instance = instance_or_report(points, text, ignore, labels, number, report)
            if instance is not None:
                instances.append(instance)
        yield Sample(image, instances, labels, len(data["shapes"]), stated_size(data, "imageWidth", "imageHeight"))


def _circle(points: Any) -> Any:
    """A polygon for labelme's centre and a point on the rim."""
    try:
        (x, y), (rim_x, rim_y) = points
        radius = math.hypot(rim_x - x, rim_y - y)
    except (TypeError, ValueError):
        return points
    angles = [2 * math.pi * k / CIRCLE_POINTS for k in range(CIRCLE_POINTS)]
    return [[x + radius * math.cos(angle), y + radius * math.sin(angle)] for angle in angles]


def write(lines: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """One image's labels; labelme opens the file beside the image."""
    [line], [name] = lines, names
    shapes = [
        {"label": "###" if skip else text or "text", "points": polygon, "group_id": None, "description": "",
         "shape_type": "polygon", "flags": {}}
        for polygon, text, skip in labelled(line)
    ]  # fmt: skip
    content = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": Path(name).name, "imageData": None,
               "imageHeight": line["height"], "imageWidth": line["width"]}  # fmt: skip
    return json.dumps(content, ensure_ascii=False)
