"""The receipt competition's submission file: ``filename,polygons`` rows, ``x y x y ...|x y ...``."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ocr.data.formats.files import read_text
from ocr.data.formats.manifest import Entry, Row, labelled, samples_of
from ocr.data.index.report import Report
from ocr.errors import UserError
from ocr.types import Sample

SUFFIXES = (".csv",)
FILE = "competition.csv"
MARKS_IGNORED = False


def matches(path: Path, content: Any) -> bool:
    """Whether the first line is the header."""
    return [cell.strip() for cell in next(csv.reader([str(content)]), [])] == ["filename", "polygons"]


def read(images: Path, annotations: Path, ids: Sequence[str] | None, report: Report) -> Iterator[Sample]:
    """Samples of a competition CSV, see :mod:`ocr.data.formats`; it has no texts and nothing ignored."""
    rows = csv.reader(io.StringIO(read_text(annotations)))
    if [cell.strip() for cell in next(rows, [])] != ["filename", "polygons"]:
        raise UserError(f"{annotations}: expected the header filename,polygons")
    return samples_of(_rows(rows, annotations, report), images, annotations, ids, report)


def _rows(rows: Any, annotations: Path, report: Report) -> Iterator[Row]:
    for row in rows:
        if row and len(row) != 2:
            report.add("unparsable_line", annotations, f"expected two columns, got {len(row)}", rows.line_num)
        elif row:
            polygons = [polygon.split() for polygon in row[1].split("|") if polygon.strip()]
            yield Row(row[0], [Entry(polygon) for polygon in polygons], rows.line_num)


def write(lines: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """The receipt competition's submission: ``filename,polygons``, coordinates apart by blanks, polygons by bars."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["filename", "polygons"])
    for line, name in zip(lines, names):
        polygons = [
            " ".join(_number(v) for point in polygon for v in point)
            for polygon, _, ignore in labelled(line)
            if not ignore
        ]
        writer.writerow([name, "|".join(polygons)])
    return text.getvalue()


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
