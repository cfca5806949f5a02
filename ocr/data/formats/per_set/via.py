"""VGG Image Annotator (VIA 1 and 2), JSON: ``{key: {"filename", "regions": [{"shape_attributes", ...}]}}``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ocr.data.formats.files import as_list, as_object, is_ignored, read_json
from ocr.data.formats.manifest import Entry, Row, labelled
from ocr.data.formats.shapes import NO_NUMBERS, box, ellipse
from ocr.data.index.report import Report
from ocr.errors import UserError

SUFFIXES = (".json",)
FILE = "via.json"
HAS_CATEGORIES = True
PROJECT = "_via_img_metadata"  # of a project file, which has the rest around it
CATEGORY_KEYS = ("type", "class", "category")
TEXT_KEYS = ("text", "transcription", "label", "name", "word")


def matches(path: Path, content: Any) -> bool:
    """Whether a JSON file has regions by image."""
    images = content.get(PROJECT, content) if isinstance(content, dict) else None
    values = list(images.values()) if isinstance(images, dict) else []
    sound = sum(isinstance(v, dict) and "filename" in v and "regions" in v for v in values)
    return 2 * sound > len(values)


def rows(labels: Path, report: Report) -> Iterator[Row]:
    """Rows of annotations or of a project."""
    content = read_json(labels)
    if not matches(labels, content):
        raise UserError(f'{labels}: expected {{key: {{"filename": ..., "regions": [...]}}}}')
    for number, image in enumerate(content.get(PROJECT, content).values(), start=1):
        if not isinstance(image, dict) or "filename" not in image or "regions" not in image:
            report.add("unparsable_line", labels, "an image without filename or regions", number)
            continue
        name, regions = str(image["filename"]), image["regions"]
        regions = list(regions.values()) if isinstance(regions, dict) else as_list(regions)  # VIA 1 counts them
        yield Row(name, [_entry(as_object(region), name) for region in regions], number)


def _entry(region: dict[str, Any], image: str) -> Entry:
    shape, attributes = (as_object(region.get(key)) for key in ("shape_attributes", "region_attributes"))
    category = next((str(attributes[key]) for key in CATEGORY_KEYS if key in attributes), "")
    outline = _outline(shape)
    if outline is None:
        return Entry(category=category, fault=f"{image}: a {shape.get('name')} encloses no text")
    text = _text_of(attributes)
    return Entry(outline, text, is_ignored(text), category=category)


def _text_of(attributes: dict[str, Any]) -> str:
    """The attribute of a region that is named as a text, else its only one."""
    named = [attributes[key] for key in TEXT_KEYS if isinstance(attributes.get(key), str)]
    only = [value for value in attributes.values() if isinstance(value, str)]
    return named[0] if named else only[0] if len(only) == 1 else ""


def _outline(shape: dict[str, Any]) -> Any:
    """(N, 2) of a polygon, rectangle, circle or ellipse; None of what encloses nothing or cannot be read."""
    try:
        if shape["name"] == "polygon":
            return np.stack([shape["all_points_x"], shape["all_points_y"]], axis=1).astype(np.float32)
        if shape["name"] == "rect":
            x, y, width, height = (float(shape[key]) for key in ("x", "y", "width", "height"))
            return box(x, y, x + width, y + height)
        if shape["name"] in ("circle", "ellipse"):
            rx, ry = float(shape.get("r", shape.get("rx", 0))), float(shape.get("r", shape.get("ry", 0)))
            degrees = math.degrees(float(shape.get("theta") or 0))
            return ellipse(float(shape["cx"]), float(shape["cy"]), rx, ry, degrees)
    except (KeyError, *NO_NUMBERS):
        pass
    return None


def write(lines: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """VIA 2's annotations, to be imported with the images loaded."""
    content = {}
    for line, name in zip(lines, names):
        regions = []
        for polygon, text, skip in labelled(line):
            xs, ys = zip(*polygon)
            shape = {"name": "polygon", "all_points_x": list(xs), "all_points_y": list(ys)}
            regions.append({"shape_attributes": shape, "region_attributes": {"text": "###" if skip else text}})
        content[f"{name}-1"] = {"filename": name, "size": -1, "regions": regions, "file_attributes": {}}
    return json.dumps(content, ensure_ascii=False)
