"""docTR detection sets: ``labels.json``, ``{name: {"img_dimensions", "polygons": [[[x, y] x 4], ...]}}``.

``polygons`` may also be ``{class name: [...]}``. docTR has no ignore mark.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ocr.data.formats.files import Manifest, instance_or_report, read_json
from ocr.data.index.report import Report
from ocr.errors import UserError
from ocr.types import Sample

SUFFIXES = (".json",)


def matches(path: Path, content: Any) -> bool:
    """Whether a JSON file has polygons by image name."""
    entries = content.values() if isinstance(content, dict) else ()
    return bool(entries) and all(isinstance(v, dict) and "polygons" in v for v in entries)


def read(images: Path, annotations: Path, ids: Sequence[str] | None, report: Report) -> Iterator[Sample]:
    """Samples of a docTR ``labels.json``, see :mod:`ocr.data.formats`."""
    entries = read_json(annotations)
    if not isinstance(entries, dict):
        raise UserError(f"{annotations}: expected {{image name: {{...}}}}, got a {type(entries).__name__}")
    manifest = Manifest(images, annotations, ids, report)
    for number, (name, entry) in enumerate(entries.items(), start=1):
        polygons = entry.get("polygons") if isinstance(entry, dict) else None
        if isinstance(polygons, dict):
            polygons = [p for group in polygons.values() for p in group]
        if not isinstance(polygons, list):
            report.add("unparsable_line", annotations, f"{name}: no list of polygons", number)
            continue
        image = manifest.find(name, number)
        if image is None:
            continue
        parsed = [instance_or_report(p, "", False, annotations, number, report) for p in polygons]
        instances = [instance for instance in parsed if instance is not None]
        yield Sample(image, instances, annotations, len(polygons))
    manifest.report_unlabelled()
