"""The receipt competition's submission file: ``filename,polygons`` rows, ``x y x y ...|x y ...``."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ocr.data.formats.files import Manifest, instance_or_report, read_text
from ocr.data.index.report import Report
from ocr.errors import UserError
from ocr.types import Sample

SUFFIXES = (".csv",)
FILE = "competition.csv"


def matches(path: Path, content: Any) -> bool:
    """Whether the first line is the header."""
    return [cell.strip() for cell in next(csv.reader([str(content)]), [])] == ["filename", "polygons"]


def read(images: Path, annotations: Path, ids: Sequence[str] | None, report: Report) -> Iterator[Sample]:
    """Samples of a competition CSV, see :mod:`ocr.data.formats`; it has no texts and nothing ignored."""
    rows = csv.reader(io.StringIO(read_text(annotations)))
    if [cell.strip() for cell in next(rows, [])] != ["filename", "polygons"]:
        raise UserError(f"{annotations}: expected the header filename,polygons")
    manifest = Manifest(images, annotations, ids, report)
    for row in rows:
        number = rows.line_num
        if not row:
            continue
        if len(row) != 2:
            report.add("unparsable_line", annotations, f"expected two columns, got {len(row)}", number)
            continue
        image = manifest.find(row[0], number)
        if image is None:
            continue
        entries = [entry for entry in row[1].split("|") if entry.strip()]
        parsed = [instance_or_report(entry.split(), "", False, annotations, number, report) for entry in entries]
        yield Sample(image, [i for i in parsed if i is not None], annotations, len(entries))
    manifest.report_unlabelled()


def write(lines: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """The receipt competition's submission: ``filename,polygons``, coordinates apart by blanks, polygons by bars."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["filename", "polygons"])
    for line, name in zip(lines, names):
        polygons = [" ".join(_number(v) for point in polygon for v in point) for polygon in line["polygons"]]
        writer.writerow([name, "|".join(polygons)])
    return text.getvalue()


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
