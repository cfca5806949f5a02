"""WildReceipt and other key-information sets of MMOCR: a JSON object ``{"file_name", "annotations"}`` per line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ocr.data.formats.files import as_object, is_ignored, numbered_lines, read_text
from ocr.data.formats.manifest import Entry, Row, stated_size
from ocr.data.index.report import Report

SUFFIXES = (".txt", ".jsonl")


def matches(path: Path, content: Any) -> bool:
    """Whether a first line is such an object."""
    return str(content).startswith("{") and _parsed(str(content)) is not None


def rows(labels: Path, report: Report) -> Iterator[Row]:
    """Rows of a list."""
    for number, line in numbered_lines(read_text(labels)):
        content = _parsed(line)
        if content is None:
            words = 'expected {"file_name": ..., "annotations": [{"box": [x1, y1, ..., x4, y4], "text": ...}, ...]}'
            report.add("unparsable_line", labels, words, number)
            continue
        entries = [_entry(as_object(word)) for word in content["annotations"]]
        yield Row(str(content["file_name"]), entries, number, stated_size(content, "width", "height"))


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    sound = isinstance(content, dict) and "file_name" in content and isinstance(content.get("annotations"), list)
    return content if sound else None


def _entry(word: dict[str, Any]) -> Entry:
    text = str(word.get("text") or "")
    return Entry(word.get("box", word.get("polygon")), text, is_ignored(text))
