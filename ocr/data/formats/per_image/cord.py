"""CORD: ``<stem>.json`` per image, ``{"valid_line": [{"words": [{"quad": {"x1", "y1", ...}, "text"}]}]}``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ocr.data.formats.files import as_list, as_object, is_ignored, json_or_report
from ocr.data.formats.manifest import Entry, Row, stated_size
from ocr.data.index.report import Report

SUFFIXES = (".json",)
CORNERS = ("x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4")


def matches(path: Path, content: Any) -> bool:
    """Whether a JSON file has CORD's lines."""
    return isinstance(content, dict) and isinstance(content.get("valid_line"), list)


def rows(labels: Path, report: Report) -> Iterator[Row]:
    """The row of an image's file, words as entries; areas of ``dontcare`` are ignored."""
    data = json_or_report(labels, report)
    if not matches(labels, data):
        if data is not None:
            report.add("unparsable_line", labels, "no valid_line")
        return
    words = [word for line in data["valid_line"] for word in as_list(as_object(line).get("words"))]
    entries = [_entry(word.get("quad"), str(word.get("text") or "")) for word in words if isinstance(word, dict)]
    for area in as_list(data.get("dontcare")):
        entries += [_entry(quad, "", ignore=True) for quad in (area if isinstance(area, list) else [area])]
    yield Row(labels.name, entries, 0, stated_size(as_object(data.get("meta")).get("image_size"), "width", "height"))


def _entry(quad: Any, text: str, ignore: bool = False) -> Entry:
    points = [quad.get(key) for key in CORNERS] if isinstance(quad, dict) else quad
    return Entry(points, text, ignore or is_ignored(text))
