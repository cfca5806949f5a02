"""COCO instances: polygons, run-length masks or boxes with ``attributes.rotation``; ``iscrowd`` = ignore."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ocr.data.formats.files import as_list, as_object, is_flagged, is_ignored, is_true, read_json
from ocr.data.formats.manifest import Entry, Row, labelled, stated_size
from ocr.data.formats.run_lengths import run_length_outlines
from ocr.data.formats.shapes import NO_NUMBERS, as_numbers, rotated_box
from ocr.data.index.report import Report
from ocr.errors import UserError
from ocr.geometry.polygons import signed_areas

SUFFIXES = (".json",)
FILE = "coco.json"
HAS_CATEGORIES = True
MIN_NUMBERS = 6  # of a polygon
XYXY, XYWH = 0, 1  # bbox_mode, as detectron2 writes it


def matches(path: Path, content: Any) -> bool:
    """Whether a JSON file has lists of images and annotations."""
    return isinstance(content, dict) and all(isinstance(content.get(k), list) for k in ("images", "annotations"))


def rows(labels: Path, report: Report) -> Iterator[Row]:
    """Rows of a COCO instances file.

    Several polygons of one annotation become one instance each, and run lengths the outlines of their areas. Without a
    segmentation the ``bbox`` (x, y, width, height) is taken, turned by ``attributes.rotation`` (degrees clockwise about
    its centre, as CVAT has it). The text stands in ``attributes.text``, ``text`` or ``utf8_string``.

    Raises:
        UserError: it is none, all of it is ``iscrowd``, or two images have one id.
    """
    data = read_json(labels)
    if not matches(labels, data):
        raise UserError(f'{labels}: expected {{"images": [...], "annotations": [...]}}')
    crowds = [_is_crowd(item) for item in data["annotations"] if isinstance(item, dict)]
    if crowds and all(crowds):
        raise UserError(
            f"{labels}: all {len(crowds)} annotations have iscrowd: 1, which is ignored text, so nothing can be "
            "learned: export polygons instead of masks, or set iscrowd to 0"
        )
    names = {str(c.get("id")): str(c.get("name")) for c in as_list(data.get("categories")) if isinstance(c, dict)}
    by_image: dict[str, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
    file_names: dict[str, Any] = {}
    for number, item in enumerate(data["annotations"], start=1):
        if isinstance(item, dict) and "image_id" in item:
            by_image[_key(item["image_id"])].append((number, item))
        else:
            report.add("unparsable_line", labels, "annotation without image_id", number)
    for number, image in enumerate(data["images"], start=1):
        if not isinstance(image, dict) or "file_name" not in image or "id" not in image:
            report.add("unparsable_line", labels, "image without id or file_name", number)
            continue
        size = stated_size(image, "width", "height")
        if file_names.setdefault(_key(image["id"]), image["file_name"]) != image["file_name"]:
            other = file_names[_key(image["id"])]
            raise UserError(
                f"{labels}: {other} and {image['file_name']} have the same id {image['id']}: give each its own"
            )
        items = by_image.pop(_key(image["id"]), [])
        entries = [entry for line, item in items for entry in _entries(item, names, size, line)]
        yield Row(str(image["file_name"]), entries, number, size)
    for orphans in by_image.values():
        for line, item in orphans:
            report.add("label_without_image", labels, f"image_id {item['image_id']} is not in images", line)


def _key(identity: Any) -> str:
    """An id, which is text in some files, a number in others."""
    return str(int(identity)) if isinstance(identity, float) and identity.is_integer() else str(identity)


def _is_crowd(item: dict[str, Any]) -> bool:
    return item.get("iscrowd", 0) in (1, True, "1")


def _entries(item: dict[str, Any], names: dict[str, str], size: tuple[int, int] | None, line: int) -> list[Entry]:
    attributes = as_object(item.get("attributes"))
    text = str(attributes.get("text", item.get("text", item.get("utf8_string", ""))) or "")
    marked = is_true(item.get("ignore")) or is_flagged(attributes)
    category = names.get(str(item.get("category_id")), str(item.get("category_id", "")))
    outlines = _outlines(item, size)
    if not outlines:
        fault = "neither a segmentation of polygons or run lengths nor a bbox"
        return [Entry(line=line, category=category, fault=fault)]
    return [Entry(outline, text, _is_crowd(item) or is_ignored(text) or marked, line, category) for outline in outlines]


def _outlines(item: dict[str, Any], size: tuple[int, int] | None) -> list[Any]:
    """The outlines of an annotation, [x1, y1, ...] or (N, 2) each; none where it has no readable one."""
    segmentation = item.get("segmentation")
    if isinstance(segmentation, dict):
        return run_length_outlines(segmentation, size)
    if outlines := _polygons(as_list(segmentation)):
        return outlines
    try:
        x, y, w, h = (float(v) for v in item["bbox"])
        degrees = float(as_object(item.get("attributes")).get("rotation") or 0)
    except (KeyError, *NO_NUMBERS):
        return []
    if item.get("bbox_mode", XYWH) not in (XYXY, XYWH):
        return []
    w, h = (w - x, h - y) if item.get("bbox_mode") == XYXY else (w, h)
    return [rotated_box(x, y, w, h, degrees, (x + w / 2, y + h / 2))]


def _polygons(segmentation: list[Any]) -> list[Any]:
    """Lists of at least three points; a flat list is one polygon, and so is a list of points."""
    if all(isinstance(v, (int, float, str)) for v in segmentation):
        return [segmentation] if len(segmentation) >= MIN_NUMBERS else []
    if all(isinstance(v, list) and len(v) == 2 for v in segmentation):
        return [segmentation] if 2 * len(segmentation) >= MIN_NUMBERS else []
    outlines = [(outline, as_numbers(outline)) for outline in segmentation if isinstance(outline, list)]
    return [outline for outline, numbers in outlines if numbers is None or numbers.size >= MIN_NUMBERS]


def write(lines: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """COCO instances, one category ``text``; the score of a polygon is its annotation's ``score``."""
    images = [
        {"id": k, "file_name": name, "width": line["width"], "height": line["height"]}
        for k, (line, name) in enumerate(zip(lines, names), start=1)
    ]
    annotations: list[dict[str, Any]] = []
    for k, line in enumerate(lines, start=1):
        for (polygon, text, ignore), score in zip(labelled(line), line["scores"], strict=True):
            points = np.asarray(polygon, np.float64)
            low, high = points.min(axis=0), points.max(axis=0)
            area = abs(float(signed_areas([points])[0]))
            annotations.append({
                "id": len(annotations) + 1, "image_id": k, "category_id": 1, "iscrowd": int(ignore),
                "area": round(area, 2), "bbox": np.round([*low, *(high - low)], 2).tolist(), "score": score,
                "segmentation": [[v for point in polygon for v in point]],
            } | ({"attributes": {"text": text}} if text else {}))  # fmt: skip
    return json.dumps(
        {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "text"}]}, ensure_ascii=False
    )
