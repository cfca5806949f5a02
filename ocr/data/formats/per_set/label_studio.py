"""Label Studio's JSON and JSON-MIN: regions in per cent of the image, rotated about their top left corner."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from ocr.data.formats.files import IMAGE_SUFFIXES, as_list, as_object, is_ignored, read_json
from ocr.data.formats.manifest import Entry, Row, labelled, stated_size
from ocr.data.formats.shapes import NO_NUMBERS, ellipse, rotated_box
from ocr.data.index.report import Report
from ocr.errors import UserError
from ocr.types import RELATIVE

SUFFIXES = (".json",)
FILE = "label_studio.json"
HAS_CATEGORIES = True
PER_CENT = 100


def matches(path: Path, content: Any) -> bool:
    """Whether a JSON file is a list of tasks, or of objects with an image and regions."""
    first = content[0] if isinstance(content, list) and content and isinstance(content[0], dict) else None
    if first is None:
        return False
    tasks = isinstance(first.get("data"), dict) and ("annotations" in first or "completions" in first)
    return tasks or (_image_of(first) is not None and any(_is_region_list(value) for value in first.values()))


def rows(labels: Path, report: Report) -> Iterator[Row]:
    """Rows of an export. Of a task's annotations one counts."""
    tasks = read_json(labels)
    if not isinstance(tasks, list):
        raise UserError(f"{labels}: expected a list of tasks, got a {type(tasks).__name__}")
    for number, task in enumerate(tasks, start=1):
        full = isinstance(task, dict) and isinstance(task.get("data"), dict)
        name = _image_of(task["data"] if full else task) if isinstance(task, dict) else None
        if name is None:
            report.add("unparsable_line", labels, "a task without an image", number)
            continue
        finished = _finished(task) if full else []
        if full and not finished:
            continue  # nobody has labelled it: no image without text
        if len(finished) > 1:
            report.add("several_annotations", labels, f"{name}: {len(finished)}", number)
        regions = _regions(finished[0]) if full else _regions_of_min(task)
        sizes = [size for region in regions if (size := stated_size(region, "original_width", "original_height"))]
        size = sizes[0] if sizes else RELATIVE
        yield Row(name, [_entry(region, size) for region in regions], number, size)


def _image_of(data: dict[str, Any]) -> str | None:
    """The value that names an image: ``image`` or ``ocr`` where there is one, else the first with an image's suffix."""
    values = [data.get("image"), data.get("ocr"), *data.values()]
    texts = [value for value in values if isinstance(value, str)]
    return next((t for t in texts if Path(t.partition("?X-")[0].lower()).suffix in IMAGE_SUFFIXES), None)


def _finished(task: dict[str, Any]) -> list[dict[str, Any]]:
    """Annotations that were not cancelled; first the one that counts: accepted, else the newest with regions."""
    done = as_list(task.get("annotations") or task.get("completions"))
    finished = [a for a in done if isinstance(a, dict) and not a.get("was_cancelled")]
    order = [(a.get("ground_truth") is True, bool(a.get("result")), k) for k, a in enumerate(finished)]
    return [finished[k] for *_, k in sorted(order, reverse=True)]


def _regions(annotation: dict[str, Any]) -> list[dict[str, Any]]:
    """The regions of an annotation, each with its text; parts of one region share its id, or else its place."""
    by_id: dict[str, dict[str, Any]] = {}
    for result in as_list(annotation.get("result")):
        value = result.get("value") if isinstance(result, dict) else None
        if isinstance(value, dict):
            geometry = [value.get(key) for key in ("x", "y", "width", "height", "points")]
            region = by_id.setdefault(str(result.get("id") or geometry), {})
            region |= {key: result[key] for key in ("original_width", "original_height") if key in result} | value
    return [region for region in by_id.values() if _is_region(region)]


def _regions_of_min(task: dict[str, Any]) -> list[dict[str, Any]]:
    regions = [dict(region) for value in task.values() if _is_region_list(value) for region in value]
    texts = task.get("transcription", task.get("text"))
    texts = [texts] if isinstance(texts, str) else texts
    if isinstance(texts, list) and len(texts) == len(regions):
        regions = [region | {"text": text} for region, text in zip(regions, texts)]
    return regions


def _is_region(value: Any) -> bool:
    """Whether a value marks a part of the image, be it one that cannot be read, such as a brush."""
    return isinstance(value, dict) and bool({"x", "points", "rle", "vertices"} & set(value))


def _is_region_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_region, value))


def _entry(region: dict[str, Any], size: tuple[int, int]) -> Entry:
    given = region.get("text") or as_object(region.get("meta")).get("text")
    text = str(" ".join(map(str, given)) if isinstance(given, list) else given or "")
    try:
        if "radiusX" in region:
            values = [float(region[key]) for key in ("x", "y", "radiusX", "radiusY")]
            cx, cy, rx, ry = (value * side / PER_CENT for value, side in zip(values, (*size, *size)))
            points: Any = ellipse(cx, cy, rx, ry, float(region.get("rotation") or 0))
        elif "points" in region:
            points = np.asarray(region["points"], np.float64) * size / PER_CENT
        else:
            x, y, width, height = (float(region[key]) for key in ("x", "y", "width", "height"))
            (w, h), degrees = size, float(region.get("rotation") or 0)
            x, y = x * w / PER_CENT, y * h / PER_CENT
            points = rotated_box(x, y, width * w / PER_CENT, height * h / PER_CENT, degrees, (x, y))
    except (KeyError, *NO_NUMBERS):
        points = None
    labels = next((v for k, v in region.items() if k.endswith("labels") and isinstance(v, list) and v), [""])
    return Entry(points, text, is_ignored(text), category=str(labels[0]))


def write(lines: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """Tasks with pre-annotations, to be imported and corrected; images are ``/data/local-files/?d=<name>``."""
    tasks = []
    for line, name in zip(lines, names):
        size = np.array([line["width"], line["height"]])
        shared = {"original_width": line["width"], "original_height": line["height"], "image_rotation": 0,
                  "from_name": "poly", "to_name": "image"}  # fmt: skip
        result: list[dict[str, Any]] = []
        for k, (polygon, text, skip) in enumerate(labelled(line)):
            points = (np.asarray(polygon, np.float64) * PER_CENT / size).tolist()
            result.append({"id": str(k), "type": "polygon", "value": {"points": points, "closed": True}, **shared})
            if text or skip:
                value = {"points": points, "closed": True, "text": ["###" if skip else text]}
                result.append(
                    {"id": str(k), "type": "textarea", "value": value, **shared, "from_name": "transcription"}
                )
        key = "annotations" if "texts" in line else "predictions"
        tasks.append(
            {"data": {"image": f"/data/local-files/?d={quote(name)}"}, "annotations": [], key: [{"result": result}]}
        )
    return json.dumps(tasks, ensure_ascii=False)
