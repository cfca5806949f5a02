"""The receipt competition's JSON: ``{"images": {name: {"words": {id: {"points": [[x, y], ...]}}}}}``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ocr.data.formats.files import IGNORED_TEXTS, Manifest, instance_or_report, read_json
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
    manifest = Manifest(images, annotations, ids, report)
    for number, (name, entry) in enumerate(entries.items(), start=1):
        words = entry.get("words") if isinstance(entry, dict) else None
        if words is None and isinstance(entry, dict):
            words = {}
        if not isinstance(words, dict):
            report.add("unparsable_line", annotations, f"{name}: words is no object", number)
            continue
        image = manifest.find(name, number)
        if image is None:
            continue
        instances = []
        for word in words.values():
            word = word if isinstance(word, dict) else {}
            text = str(word.get("transcription") or "")
            ignore = text in IGNORED_TEXTS or bool(word.get("illegibility", False))
            instance = instance_or_report(word.get("points"), text, ignore, annotations, number, report)
            if instance is not None:
                instances.append(instance)
        yield Sample(image, instances, annotations, len(words))
    manifest.report_unlabelled()


def write(lines: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """The receipt competition's JSON."""
    images = {
        name: {
            "img_w": line["width"],
            "img_h": line["height"],
            "words": {f"{k:04d}": {"points": polygon} for k, polygon in enumerate(line["polygons"], start=1)},
        }
        for line, name in zip(lines, names)
    }
    return json.dumps({"images": images}, ensure_ascii=False)
