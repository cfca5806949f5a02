"""The receipt competition's JSON: ``{"images": {name: {"words": {id: {"points": [[x, y], ...]}}}}}``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ocr.data.formats.files import is_ignored, read_json
from ocr.data.formats.manifest import Entry, Row, labelled, samples_of, stated_size
from ocr.data.index.report import Report
from ocr.errors import UserError
from ocr.types import Sample

SUFFIXES = (".json",)
FILE = "competition.json"


def matches(path: Path, content: Any) -> bool:
    """Whether a JSON file has images by name."""
    return isinstance(content, dict) and isinstance(content.get("images"), dict)


def read(images: Path, annotations: Path, ids: Sequence[str] | None, report: Report) -> Iterator[Sample]:
    """Samples of a competition file, see :mod:`ocr.data.formats`.

    A word is ignored when its transcription is ``###`` or ``*`` or when ``illegibility`` is true.
    """
    data = read_json(annotations)
    entries = data.get("images") if isinstance(data, dict) else None
    if not isinstance(entries, dict):
        raise UserError(f'{annotations}: expected {{"images": {{name: {{"words": {{...}}}}}}}}')
    return samples_of(_rows(entries, annotations, report), images, annotations, ids, report)


def _rows(entries: dict[str, Any], annotations: Path, report: Report) -> Iterator[Row]:
    for number, (name, entry) in enumerate(entries.items(), start=1):
        words = entry.get("words") if isinstance(entry, dict) else None
        words = {} if words is None and isinstance(entry, dict) else words
        if not isinstance(words, dict):
            report.add("unparsable_line", annotations, f"{name}: words is no object", number)
            continue
        objects = [word if isinstance(word, dict) else {} for word in words.values()]
        yield Row(name, [_entry(word) for word in objects], number, stated_size(entry, "img_w", "img_h"))


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
