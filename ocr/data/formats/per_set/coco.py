"""COCO instances: segmentation polygons, ``iscrowd`` = ignore; run-length masks are not read."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ocr.data.formats.files import IGNORED_TEXTS, Manifest, instance_or_report, read_json
from ocr.data.index.report import Report
from ocr.errors import UserError
from ocr.geometry.polygons import flatten, signed_area
from ocr.types import Instance, Sample

SUFFIXES = (".json",)
FILE = "coco.json"


def matches(path: Path, content: Any) -> bool:
    """Whether a JSON file has lists of images and annotations."""
    return isinstance(content, dict) and all(isinstance(content.get(k), list) for k in ("images", "annotations"))


def read(images: Path, annotations: Path, ids: Sequence[str] | None, report: Report) -> Iterator[Sample]:
    """Samples of a COCO instances file, see :mod:`ocr.data.formats`.

    Without a segmentation the ``bbox`` (x, y, width, height) is taken. Several polygons of one annotation become
    one instance each. The text, where there is one, stands in ``attributes.text``, ``text`` or ``utf8_string``.
    """
    data = read_json(annotations)
    if not isinstance(data, dict) or not all(isinstance(data.get(k), list) for k in ("images", "annotations")):
        raise UserError(f'{annotations}: expected {{"images": [...], "annotations": [...]}}')
    by_image: dict[Any, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
    for number, entry in enumerate(data["annotations"], start=1):
        if isinstance(entry, dict) and "image_id" in entry:
            by_image[entry["image_id"]].append((number, entry))
        else:
            report.add("unparsable_line", annotations, "annotation without image_id", number)
    manifest = Manifest(images, annotations, ids, report)
    for number, entry in enumerate(data["images"], start=1):
        if not isinstance(entry, dict) or "file_name" not in entry or "id" not in entry:
            report.add("unparsable_line", annotations, "image without id or file_name", number)
            continue
        entries = by_image.pop(entry["id"], [])
        image = manifest.find(str(entry["file_name"]), number)
        if image is None:
            continue
        instances = [i for line, item in entries for i in _instances(item, annotations, line, report)]
        yield Sample(image, instances, annotations, len(entries))
    for orphans in by_image.values():
        for line, item in orphans:
            report.add("label_without_image", annotations, f"image_id {item['image_id']} is not in images", line)
    manifest.report_unlabelled()


def _instances(item: dict[str, Any], where: Path, line: int, report: Report) -> list[Instance]:
    given = item.get("attributes")
    attributes = given if isinstance(given, dict) else {}
    text = str(attributes.get("text", item.get("text", item.get("utf8_string", ""))) or "")
    ignore = bool(item.get("iscrowd", 0)) or text in IGNORED_TEXTS
    outlines = item.get("segmentation")
    if isinstance(outlines, dict) or not outlines:
        try:
            x, y, w, h = (float(v) for v in item["bbox"])
        except (KeyError, TypeError, ValueError):
            report.add("unparsable_line", where, "neither a segmentation polygon nor a bbox", line)
            return []
        outlines = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    if not isinstance(outlines, list):
        report.add("unparsable_line", where, "segmentation is no list of polygons", line)
        return []
    parsed = [instance_or_report(outline, text, ignore, where, line, report) for outline in outlines]
    return [instance for instance in parsed if instance is not None]


def write(lines: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """COCO instances, one category ``text``; the score of a polygon is its annotation's ``score``."""
    images = [
        {"id": k, "file_name": name, "width": line["width"], "height": line["height"]}
        for k, (line, name) in enumerate(zip(lines, names), start=1)
    ]
    annotations: list[dict[str, Any]] = []
    for k, line in enumerate(lines, start=1):
        for polygon, score in zip(line["polygons"], line["scores"], strict=True):
            points = np.asarray(polygon, np.float64)
            low, high = points.min(axis=0), points.max(axis=0)
            area = abs(float(signed_area(*flatten([points]))[0]))
            annotations.append({
                "id": len(annotations) + 1, "image_id": k, "category_id": 1, "iscrowd": 0, "area": round(area, 2),
                "bbox": np.round([*low, *(high - low)], 2).tolist(), "score": score,
                "segmentation": [[v for point in polygon for v in point]],
            })  # fmt: skip
    return json.dumps(
        {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "text"}]}, ensure_ascii=False
    )
