"""PaddleOCR: a text file of ``path<TAB>[{"transcription": ..., "points": [[x, y], ...]}, ...]`` lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ocr.data.formats.files import IGNORED_TEXTS, Manifest, instance_or_report, read_text
from ocr.data.index.report import Report
from ocr.types import Sample

SUFFIXES = (".txt",)
FILE = "Label.txt"


def matches(path: Path, content: Any) -> bool:
    """Whether a first line has a list behind a tab."""
    return str(content).partition("\t")[2].lstrip().startswith("[")


def read(images: Path, annotations: Path, ids: Sequence[str] | None, report: Report) -> Iterator[Sample]:
    """Samples of a PaddleOCR detection list, see :mod:`ocr.data.formats`."""
    manifest = Manifest(images, annotations, ids, report)
    for number, line in enumerate(read_text(annotations).split("\n"), start=1):
        line = line.rstrip("\r")
        if not line.strip():
            continue
        name, _, labels = line.partition("\t")
        try:
            entries = json.loads(labels)
            if not isinstance(entries, list):
                raise ValueError("the part after the tab is no list")
        except ValueError as error:
            report.add("unparsable_line", annotations, f"expected path<TAB>[{{...}}, ...] ({error})", number)
            continue
        image = manifest.find(name, number)
        if image is None:
            continue
        instances = []
        for entry in entries:
            entry = entry if isinstance(entry, dict) else {}
            text = str(entry.get("transcription", ""))
            ignore = text in IGNORED_TEXTS
            instance = instance_or_report(entry.get("points"), text, ignore, annotations, number, report)
            if instance is not None:
                instances.append(instance)
        yield Sample(image, instances, annotations, len(entries))
    manifest.report_unlabelled()


def write(lines: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """PaddleOCR's list, which PPOCRLabel opens; transcriptions are empty."""
    rows = []
    for line, name in zip(lines, names):
        entries = [{"transcription": "", "points": polygon, "difficult": False} for polygon in line["polygons"]]
        rows.append(f"{name}\t{json.dumps(entries, ensure_ascii=False)}\n")
    return "".join(rows)
