"""PaddleOCR: a text file of ``path<TAB>[{"transcription": ..., "points": [[x, y], ...]}, ...]`` lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ocr.data.formats.files import as_object, is_ignored, is_true, numbered_lines, read_text
from ocr.data.formats.manifest import Entry, Row, labelled
from ocr.data.index.report import Report

SUFFIXES = (".txt",)
FILE = "Label.txt"


def matches(path: Path, content: Any) -> bool:
    """Whether a first line has a list behind a tab."""
    return str(content).partition("\t")[2].lstrip().startswith("[")


def rows(labels: Path, report: Report) -> Iterator[Row]:
    """Rows of a detection list."""
    for number, line in numbered_lines(read_text(labels)):
        name, _, content = line.partition("\t")
        try:
            entries = json.loads(content)
            if not isinstance(entries, list):
                raise ValueError("the part after the tab is no list")
        except (ValueError, RecursionError) as error:
            report.add("unparsable_line", labels, f"expected path<TAB>[{{...}}, ...] ({error})", number)
            continue
        yield Row(name, [_entry(as_object(entry), name) for entry in entries], number)


def _entry(entry: dict[str, Any], name: str) -> Entry:
    text = str(entry.get("transcription", ""))
    difficult = is_true(entry.get("difficult"))
    detail = f"{name}: {text!r}" if difficult else ""
    return Entry(entry.get("points"), text, is_ignored(text) or difficult, difficult=detail)


def write(lines: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """PaddleOCR's list, which PPOCRLabel opens."""
    listed = []
    for line, name in zip(lines, names):
        entries = [
            {"transcription": "###" if ignore else text, "points": polygon, "difficult": False}
            for polygon, text, ignore in labelled(line)
        ]
        listed.append(f"{name}\t{json.dumps(entries, ensure_ascii=False)}\n")
    return "".join(listed)
