"""Label lines of the ICDAR family: coordinates, perhaps a column about the text, the text.

Coordinates are apart by commas, semicolons or blanks. Two points are opposite corners. Where the text begins with
numbers itself (``12,50``), the other lines of the file tell how many coordinates a line has.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ocr.data.formats.files import decode_text, is_ignored, numbered_lines, shortest
from ocr.data.formats.manifest import Entry, Row, labelled
from ocr.data.formats.shapes import RELATIVE_LIMIT, box
from ocr.data.index.report import Report
from ocr.geometry.polygons import normal_quads

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|nan|[+-]?inf"
_FIRST = re.compile(rf"\s*(?:{_NUMBER})\s*([,;]?)", re.IGNORECASE)
_NUMBERS = {
    mark: re.compile(rf"\s*({_NUMBER}){end}", re.IGNORECASE)
    for mark, end in ((",", r"\s*(?:,|$)"), (";", r"\s*(?:;|$)"), ("", r"(?:\s+|$)"))
}
MIN_SHARE = 0.2  # of the lines of the most frequent number of coordinates: fewer are numbers in the text
MAJORITY = 0.8  # of the lines
MAX_COLUMNS = 3
CORNERS, QUAD = 4, 8  # coordinates of two opposite corners, and of four
# what MLT, ArT, LSVT and tools that know languages write before the text
SCRIPTS = frozenset(
    {"arabic", "bangla", "chinese", "devanagari", "english", "french", "german", "hindi", "italian", "japanese",
     "korean", "latin", "malay", "mixed", "none", "symbols", "ar", "bn", "zh", "cn", "ch", "en", "fr", "de", "hi",
     "it", "ja", "jp", "ko", "kr", "la", "ms"}
)  # fmt: skip


class Line(NamedTuple):
    """A line before it is known how many of its leading numbers are coordinates.

    Attributes:
        number: in the file.
        commas: its numbers are apart by commas or semicolons, else by blanks.
        values: the leading numbers.
        rests: what follows the first k of them, for k from 0.
    """

    number: int
    commas: bool
    values: list[float]
    rests: list[str]


@dataclass(frozen=True)
class Layout:
    """Facts that the lines of a file have in common.

    Attributes:
        lead: numbers before the coordinates, 0 or 1: a class, an index, a count of points.
        counts: numbers of coordinates that lines with text have, ascending, by whether commas separate them.
        columns: kinds of the columns between coordinates and text: ``script``, ``difficulty``, ``score``.
        ordered: two corners are the upper left and the lower right one.
    """

    lead: int
    counts: dict[bool, list[int]]
    columns: tuple[str, ...] = ()
    ordered: bool = True

    @classmethod
    def of(cls, lines: list[Line]) -> Layout:
        """The layout that most lines have."""
        layout = cls(int(_has_lead(lines)), {})
        seen: dict[bool, Counter[int]] = {True: Counter(), False: Counter()}
        for line in lines:
            count = len(line.values) - layout.lead
            if line.rests[-1] and (count >= QUAD or count in (CORNERS, CORNERS + 1)):
                seen[line.commas][count - count % 2] += 1
        for commas, counts in seen.items():
            most = max(counts.values(), default=0)
            layout.counts[commas] = sorted(count for count, times in counts.items() if times >= MIN_SHARE * most)
        boxes = [line.values[layout.lead :] for line in lines if layout.coordinates(line) == CORNERS]
        ordered = all(box[0] < box[2] and box[1] < box[3] for box in boxes)
        return replace(layout, columns=layout.columns_of(lines), ordered=ordered)

    def coordinates(self, line: Line) -> int | None:
        """Number of a line's coordinates after the lead; None where there are too few."""
        values = line.values[self.lead :]
        count, has_text, usual = len(values), bool(line.rests[-1]), self.counts.get(line.commas, [])
        even = count - count % 2
        if not usual:
            if count < QUAD:
                return CORNERS if count in (CORNERS, CORNERS + 1) else None
            return even if _is_outline(values[:even], QUAD) else QUAD
        if has_text and even >= usual[0] + 4 and _is_outline(values[:even], usual[0]):
            return even
        fitting = [known for known in usual if known <= count - (not has_text)]  # what stands for the text is no number
        for known in fitting[:0:-1]:
            if _is_outline(values[:known], fitting[0]):
                return known
        if fitting:
            return fitting[0]
        if count in usual:
            return count
        return even if count >= QUAD else CORNERS if has_text and even == CORNERS else None

    def columns_of(self, lines: list[Line]) -> tuple[str, ...]:
        """The kinds of columns between coordinates and text that every line has."""
        counts = [self.coordinates(line) for line in lines]
        rests = [line.rests[self.lead + n] for line, n in zip(lines, counts) if n is not None]
        columns: list[str] = []
        while len(columns) < MAX_COLUMNS and rests:
            cells = [rest.partition(",") for rest in rests]
            heads = [head.strip().casefold() for head, comma, _ in cells if comma]
            kind = _column_kind(heads) if len(heads) == len(rests) else None
            if kind is None:
                break
            columns.append(kind)
            rests = [rest for _, _, rest in cells]
        return tuple(columns)


def _column_kind(heads: list[str]) -> str | None:
    if all(head in SCRIPTS for head in heads):
        return "script"
    if len(heads) > 1 and all(head in ("0", "1") for head in heads):
        return "difficulty"
    return "score" if len(heads) > 1 and all(re.fullmatch(r"[01]?\.\d+|1\.0", head) for head in heads) else None


def split_line(text: str, number: int = 0) -> Line:
    """The leading numbers of a line, and what follows each of them."""
    first = _FIRST.match(text)
    mark = first[1] if first is not None else ""
    values: list[float] = []
    rests, at = [text.strip()], 0
    while match := _NUMBERS[mark].match(text, at):
        values.append(float(match[1]))
        at = match.end()
        rests.append(text[at:].strip())
    return Line(number, mark != "", values, rests)


def is_quad_line(line: Any) -> bool:
    """Whether a text begins with the corners of a box, a quadrangle or a polygon."""
    split = split_line(str(line))
    count = len(split.values)
    if count < CORNERS or max(map(abs, split.values)) <= RELATIVE_LIMIT:  # the latter are YOLO's
        return False
    return count >= QUAD or (count == CORNERS and bool(split.rests[CORNERS]))


def read_quad_file(labels: Path, report: Report, keep_marks: bool = False) -> Row:
    """The row of a label file; ``###`` and ``*`` mark text to ignore, unless ``keep_marks`` says that they are text."""
    text, fault = decode_text(labels)
    if fault:
        report.add("not_utf8", labels, fault.partition(": ")[2])
    lines = [split_line(line.strip("\ufeff"), k) for k, line in numbered_lines(text)]
    layout = Layout.of(lines)
    if layout.columns or layout.lead:
        kinds = ", ".join([*(["a number"] if layout.lead else []), *layout.columns])
        report.add("ignored_column", labels, f"{kinds} beside the coordinates")
    entries = []
    for line in lines:
        count = layout.coordinates(line)
        if count is None or (count == CORNERS and not layout.ordered):
            got = f"{len(line.values)} numbers" if count is None else "no upper left and lower right corner"
            entries.append(Entry(line=line.number, fault=f"expected x1,y1,...,x4,y4,text (got {got})"))
            continue
        rest, difficult = line.rests[layout.lead + count], False
        for kind in layout.columns:
            head, _, rest = rest.partition(",")
            difficult |= kind == "difficulty" and head.strip() == "1"
        content = _unquoted(rest.strip())
        values = line.values[layout.lead : layout.lead + count]
        ignore = difficult or (is_ignored(content) and not keep_marks)
        points = box(*values) if count == CORNERS else values
        entries.append(Entry(points, content, ignore, line.number, difficult=repr(content) if difficult else ""))
    return Row(labels.name, entries)


def _is_outline(values: list[float], sure: int) -> bool:
    """Whether further points lie near the first ones, as an outline's do and a number in the text does not."""
    points = np.array(values, np.float64).reshape(-1, 2)
    first, more = points[: sure // 2], points[sure // 2 :]
    low, high = first.min(axis=0), first.max(axis=0)
    reach = max(float((high - low).max()) / 2, 1.0)
    return bool(((more >= low - reach) & (more <= high + reach)).all())


def _has_lead(lines: list[Line]) -> bool:
    """Whether quads are convex from the second number on, and not from the first."""
    rows = np.array([line.values[: QUAD + 1] for line in lines if len(line.values) > QUAD], np.float32)
    rows = rows[np.isfinite(rows).all(axis=1)] if len(rows) else rows
    if len(rows) < max(2, len(lines) // 2):
        return False
    far = 2 * float(np.abs(rows).max()) + 1
    quads = [rows[:, k : k + QUAD].reshape(-1, 4, 2) + far for k in (1, 0)]
    shifted, plain = (normal_quads(quad, int(4 * far), int(4 * far))[0].mean() for quad in quads)
    return bool(shifted > MAJORITY and plain < 1 - MAJORITY)


def _unquoted(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] == '"' and '"' not in text[1:-1].replace('""', ""):
        return text[1:-1].replace('""', '"')
    return text


def write_quad_lines(line: dict[str, Any], ignore_mark: str | None) -> str:
    """Label lines of an image; ignored text gets the mark.

    Args:
        line: polygons, and texts and ignore flags where these are known.
        ignore_mark: None for a format that has none: ignored text is left out.
    """
    rows = []
    for polygon, text, skip in labelled(line):
        if skip and ignore_mark is None:
            continue
        numbers = ",".join(shortest(v) for point in polygon for v in point)
        shown = ignore_mark if skip and ignore_mark else " ".join(text.split("\n")).replace("\r", " ")
        if re.match(_NUMBER, shown, re.IGNORECASE) or shown.startswith('"'):  # it would be taken for more
            shown = '"' + shown.replace('"', '""') + '"'
        rows.append(f"{numbers},{shown}\n")
    return "".join(rows)
