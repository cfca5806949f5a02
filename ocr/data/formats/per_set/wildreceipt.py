"""WildReceipt and other key-information sets of MMOCR: a JSON object ``{"file_name", "annotations"}`` per line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ocr.data.formats.files import is_ignored, numbered_lines, read_text
from ocr.data.formats.manifest import Entry, Row, samples_of, stated_size
from ocr.data.index.report import Report
from ocr.types import Sample

SUFFIXES = (".txt", ".jsonl")


def matches(path: Path, content: Any) -> bool:
    """Whether a first line is such an object."""
    return str(content).startswith("{") and _parsed(str(content)) is not None


def read(images: Path, annotations: Path, ids: Sequence[str] | None, report: Report) -> Iterator[Sample]:
    """Samples of a list, see :mod:`ocr.data.formats`."""
    return samples_of(_rows(annotations, report), images, annotations, ids, report)


def _rows(annotations: Path, report: Report) -> Iterator[Row]:
    for number, line in numbered_lines(read_text(annotations)):
        content = _parsed(line)
        if content is None:
            words = 'expected {"file_name": ..., "annotations": [{"box": [x1, y1, ..., x4, y4], "text": ...}, ...]}'
            report.add("unparsable_line", annotations, words, number)
            continue
        words_of = [word if isinstance(word, dict) else {} for word in content["annotations"]]
        size = stated_size(content, "width", "height")
        yield Row(str(content["file_name"]), [_entry(word) for word in words_of], number, size)


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
