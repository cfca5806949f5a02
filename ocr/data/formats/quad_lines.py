"""Label lines of the ICDAR family: coordinates, perhaps a column about the text, the text.

Coordinates are apart by commas or blanks. Two points are opposite corners. Where the text begins with numbers itself
(``12,50``), the other lines of the file tell how many coordinates a line has.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ocr.data.formats.files import IGNORED_TEXTS, RELATIVE_LIMIT, box, decode_text
from ocr.data.formats.manifest import labelled
from ocr.data.index.report import Report
from ocr.types import Instance, Sample

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|nan|[+-]?inf"
_COMMAS = re.compile(rf"\s*({_NUMBER})\s*(?:,|$)", re.IGNORECASE)
_BLANKS = re.compile(rf"\s*({_NUMBER})(?:\s+|$)", re.IGNORECASE)
CORNERS, QUAD = 4, 8  # coordinates of two opposite corners, and of four
# what MLT, ArT, LSVT and tools that know languages write before the text
SCRIPTS = frozenset(
    {"arabic", "bangla", "chinese", "devanagari", "english", "french", "german", "hindi", "italian", "japanese",
     "korean", "latin", "mixed", "none", "symbols", "ar", "bn", "zh", "cn", "ch", "en", "fr", "de", "hi",
     "it", "ja", "jp", "ko", "kr", "la"}
)  # fmt: skip


class Line(NamedTuple):
    """A line before it is known how many of its leading numbers are coordinates."""

    number: int
    values: list[float]
    rests: list[str]  # what follows the first k numbers, for k from 0


def split_line(text: str, number: int = 0) -> Line:
    """The leading numbers of a line, and what follows each of them."""
    pattern = _COMMAS if _is_apart_by_commas(text) else _BLANKS
    values: list[float] = []
    rests, at = [text.strip()], 0
    while match := pattern.match(text, at):
        values.append(float(match[1]))
        at = match.end()
        rests.append(text[at:].strip())
    return Line(number, values, rests)


def _is_apart_by_commas(text: str) -> bool:
    first = re.match(rf"\s*(?:{_NUMBER})\s*(,?)", text, re.IGNORECASE)
    return first is not None and first[1] == ","


def is_quad_line(line: Any) -> bool:
    """Whether a text begins with the corners of a box, a quadrangle or a polygon."""
    split = split_line(str(line))
    count = len(split.values)
    if count < CORNERS or max(map(abs, split.values)) <= RELATIVE_LIMIT:  # the latter are YOLO's
        return False
    return count >= QUAD or (count == CORNERS and bool(split.rests[CORNERS]))


def read_quad_file(image: Path, labels: Path, report: Report, keep_marks: bool = False) -> Sample:
    """A Sample from one label file.

    Args:
        image: its image.
        labels: the file.
        report: gets lines that do not parse.
        keep_marks: ``###`` and ``*`` are text; else they mark text to ignore.
    """
    text, fault = decode_text(labels)
    if fault:
        report.add("not_utf8", labels, fault.partition(": ")[2])
    # only \n ends a line: other marks of line ends, such as U+2028, stand within texts
    numbered = [(k, line) for k, line in enumerate(text.split("\n"), start=1) if line.strip(" \t\r\f\ufeff")]
    lines = [split_line(line.rstrip("\r").strip("\ufeff"), k) for k, line in numbered]
    usual = usual_count(lines)
    column = _column(lines, usual)
    if column:
        report.add("ignored_column", labels, f"{column} before the text")
    instances = []
    for line in lines:
        count = _coordinates(line, usual)
        if count is None:
            got = f"{len(line.values)} numbers"
            report.add("unparsable_line", labels, f"expected x1,y1,...,x4,y4,text (got {got})", line.number)
            continue
        rest, difficult = line.rests[count], False
        if column:
            head, _, rest = rest.partition(",")
            difficult = column == "difficulty" and head.strip() == "1"
        content = _unquoted(rest.strip())
        points = np.array(line.values[:count], np.float64).reshape(-1, 2)
        with np.errstate(over="ignore"):
            polygon = box(*points.ravel()) if count == CORNERS else points.astype(np.float32)
        if difficult:
            report.add("difficult", labels, repr(content), line.number)
        ignore = difficult or (content in IGNORED_TEXTS and not keep_marks)
        instances.append(Instance(polygon, content, ignore, line.number))
    return Sample(image, instances, labels, len(lines))


def usual_count(lines: list[Line]) -> int | None:
    """Coordinates per line, by the lines whose text does not begin with a number; None where there are none."""
    counts = Counter(
        len(line.values) for line in lines if line.rests[-1] and len(line.values) >= QUAD and len(line.values) % 2 == 0
    )
    return counts.most_common(1)[0][0] if counts else None


def _coordinates(line: Line, usual: int | None) -> int | None:
    """How many of the leading numbers are coordinates; None where there are too few."""
    found = len(line.values)
    if found < QUAD:
        return CORNERS if found in (CORNERS, CORNERS + 1) else None
    sure = usual if usual is not None and found >= usual else QUAD
    if found <= sure + 1 or (usual is not None and not line.rests[found]):  # the lines have texts: this one is a number
        return sure
    return found // 2 * 2 if _is_outline(line.values[: found // 2 * 2], sure) else sure


def _is_outline(values: list[float], sure: int) -> bool:
    """Whether the points behind the first ones lie near these, as those of an outline do and a number does not."""
    points = np.array(values, np.float64).reshape(-1, 2)
    first, more = points[: sure // 2], points[sure // 2 :]
    low, high = first.min(axis=0), first.max(axis=0)
    reach = max(float((high - low).max()) / 2, 1.0)
    return bool(((more >= low - reach) & (more <= high + reach)).all())


def _column(lines: list[Line], usual: int | None) -> str | None:
    """The kind of a column between coordinates and text that every line has; None where there is none."""
    heads = []
    for line in lines:
        count = _coordinates(line, usual)
        if count is not None:
            head, comma, _ = line.rests[count].partition(",")
            heads.append(head.strip().casefold() if comma else None)
    if heads and all(head in SCRIPTS for head in heads):
        return "script"
    return "difficulty" if len(heads) > 1 and all(head in ("0", "1") for head in heads) else None


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
        numbers = ",".join(_shortest(v) for point in polygon for v in point)
        shown = ignore_mark if skip and ignore_mark else " ".join(text.split("\n")).replace("\r", " ")
        if re.match(_NUMBER, shown, re.IGNORECASE) or shown.startswith('"'):  # it would be taken for more
            shown = '"' + shown.replace('"', '""') + '"'
        rows.append(f"{numbers},{shown}\n")
    return "".join(rows)


def _shortest(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
