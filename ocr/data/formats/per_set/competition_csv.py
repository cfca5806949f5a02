"""The receipt competition's submission file: ``filename,polygons`` rows, ``x y x y ...|x y ...``."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ocr.data.formats.files import read_text, shortest
from ocr.data.formats.manifest import Entry, Row, labelled
from ocr.data.index.report import Report
from ocr.errors import UserError

SUFFIXES = (".csv",)
FILE = "competition.csv"
MARKS_IGNORED = False
HAS_TEXTS = False
HEADER = ["filename", "polygons"]


def matches(path: Path, content: Any) -> bool:
    """Whether the first line is the header."""
    return _is_header(str(content).split(","))


def rows(labels: Path, report: Report) -> Iterator[Row]:
    """Rows of a competition CSV; it has no texts and nothing ignored."""
    reader = csv.reader(io.StringIO(read_text(labels), newline=""))
    try:
        lines = [(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as error:
        raise UserError(f"{labels}:{reader.line_num}: not valid CSV: {error}") from error
    if not lines or not _is_header(lines[0][1]):
        raise UserError(f"{labels}: expected the header {','.join(HEADER)}")
    for number, cells in lines[1:]:
        if len(cells) != 2:
            report.add("unparsable_line", labels, f"expected two columns, got {len(cells)}", number)
        else:
            yield Row(cells[0], [Entry(part.split()) for part in cells[1].split("|") if part.strip()], number)


def _is_header(cells: Sequence[str]) -> bool:
    return [cell.strip().strip('"') for cell in cells] == HEADER


def write(lines: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """The receipt competition's submission: coordinates apart by blanks, polygons by bars."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for line, name in zip(lines, names):
        polygons = [
            " ".join(shortest(v) for point in polygon for v in point)
            for polygon, _, ignore in labelled(line)
            if not ignore
        ]
        writer.writerow([name, "|".join(polygons)])
    return text.getvalue()
