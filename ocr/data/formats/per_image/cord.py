"""CORD: ``<stem>.json`` per image, ``{"valid_line": [{"words": [{"quad": {"x1", "y1", ...}, "text"}]}]}``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ocr.data.formats.files import is_ignored, json_or_report
from ocr.data.formats.manifest import Entry, Row, sample_of, stated_size
from ocr.data.formats.pairing import pair_by_stem
from ocr.data.index.report import Report
from ocr.types import Sample

SUFFIXES = (".json",)
CORNERS = ("x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4")


def matches(path: Path, content: Any) -> bool:
    """Whether a JSON file has CORD's lines."""
    return isinstance(content, dict) and isinstance(content.get("valid_line"), list)


def naming(annotations: Path) -> tuple[str, str]:
    """(suffix, optional prefix) of the label files."""
    return ".json", ""


def read(images: Path, annotations: Path, ids: Sequence[str] | None, report: Report) -> Iterator[Sample]:
    """Samples of a set, words as instances, see :mod:`ocr.data.formats`; areas of ``dontcare`` are ignored."""
    for image, labels in pair_by_stem(images, annotations, *naming(annotations), ids, report):
        data = json_or_report(labels, report)
        if not matches(labels, data):
            if data is not None:
                report.add("unparsable_line", labels, "no valid_line")
            continue
        lines = [line for line in data["valid_line"] if isinstance(line, dict)]
        words = [word for line in lines for word in _list(line.get("words")) if isinstance(word, dict)]
        quads = [quad for area in _list(data.get("dontcare")) for quad in (area if isinstance(area, list) else [area])]
        entries = [_entry(word.get("quad"), str(word.get("text") or "")) for word in words]
        entries += [_entry(quad, "", ignore=True) for quad in quads]
        meta = data.get("meta")
        size = stated_size(meta.get("image_size"), "width", "height") if isinstance(meta, dict) else None
        yield sample_of([Row(image.name, entries, 0, size)], image, labels, report)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _entry(quad: Any, text: str, ignore: bool = False) -> Entry:
    points = [quad.get(key) for key in CORNERS] if isinstance(quad, dict) else quad
    return Entry(points, text, ignore or is_ignored(text))
