"""The receipt competition's JSON: ``{"images": {name: {"words": {id: {"points": [[x, y], ...]}}}}}``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ocr.data.formats.files import as_object, is_ignored, read_json
from ocr.data.formats.manifest import Entry, Row, labelled, stated_size
from ocr.data.index.report import Report
from ocr.errors import UserError

SUFFIXES = (".json",)
FILE = "competition.json"


def matches(path: Path, content: Any) -> bool:
    """Whether a JSON file has images by name."""
    return isinstance(content, dict) and isinstance(content.get("images"), dict)


def rows(labels: Path, report: Report) -> Iterator[Row]:
    """Rows of a competition file.

    A word is ignored when its transcription is ``###`` or ``*`` or when ``illegibility`` is true.
    """
    data = read_json(labels)
    if not matches(labels, data):
        raise UserError(f'{labels}: expected {{"images": {{name: {{"words": {{...}}}}}}}}')
    for number, (name, image) in enumerate(data["images"].items(), start=1):
        words = image.get("words") if isinstance(image, dict) else None
        words = {} if words is None and isinstance(image, dict) else words
        if not isinstance(words, dict):
            report.add("unparsable_line", labels, f"{name}: words is no object", number)
            continue
        entries = [_entry(as_object(word)) for word in words.values()]
        yield Row(name, entries, number, stated_size(image, "img_w", "img_h"))


def _entry(word: dict[str, Any]) -> Entry:
    text = str(word.get("transcription") or "")
    return Entry(word.get("points"), text, is_ignored(text) or bool(word.get("illegibility", False)))


def write(lines: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """The receipt competition's JSON."""
    images = {
        name: {
            "img_w": line["width"],
            "img_h": line["height"],
            "words": {f"{k:04d}": _word(*word) for k, word in enumerate(labelled(line), start=1)},
        }
        for line, name in zip(lines, names)
    }
    return json.dumps({"images": images}, ensure_ascii=False)


def _word(polygon: Any, text: str, ignore: bool) -> dict[str, Any]:
    return {"points": polygon} | ({"transcription": text} if text else {}) | ({"illegibility": True} if ignore else {})
