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
HAS_TEXTS = False


def matches(path: Path, content: Any) -> bool:
    """Whether the first line is the header."""
    return _is_header(str(content).split(","))


def read(images: Path, annotations: Path, ids: Sequence[str] | None, report: Report) -> Iterator[Sample]:
    """Samples of a competition CSV, see :mod:`ocr.data.formats`; it has no texts and nothing ignored."""
    reader = csv.reader(io.StringIO(read_text(annotations), newline=""))
    try:
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise UserError(f"{annotations}:{reader.line_num}: not valid CSV: {error}") from error
    if not rows or not _is_header(rows[0][1]):
        raise UserError(f"{annotations}: expected the header filename,polygons")
    return samples_of(_rows(rows[1:], annotations, report), images, annotations, ids, report)


def _is_header(cells: Sequence[str]) -> bool:
    return [cell.strip().strip('"') for cell in cells] == ["filename", "polygons"]


def _rows(rows: list[tuple[int, list[str]]], annotations: Path, report: Report) -> Iterator[Row]:
    for number, row in rows:
        if len(row) != 2:
            report.add("unparsable_line", annotations, f"expected two columns, got {len(row)}", number)
        else:
            polygons = [polygon.split() for polygon in row[1].split("|") if polygon.strip()]
            yield Row(row[0], [Entry(polygon) for polygon in polygons], number)


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
