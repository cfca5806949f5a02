"""YOLO: ``<stem>.txt`` per image, ``class x1 y1 x2 y2 ...`` (OBB, segments) or ``class cx cy w h``, from 0 to 1."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ocr.data.formats.files import decode_text, numbered_lines
from ocr.data.formats.manifest import Entry, Row, choose_categories, labelled, sample_of
from ocr.data.formats.pairing import pair_by_stem
from ocr.data.formats.shapes import NO_NUMBERS, RELATIVE_LIMIT, box
from ocr.data.index.report import Report
from ocr.types import RELATIVE, Sample

SUFFIXES = (".txt",)
FILE = "{stem}.txt"
MARKS_IGNORED = False
HAS_CATEGORIES = True
HAS_TEXTS = False
BOX = 5  # numbers of a line with a box; a polygon has an odd number from 7 on
DIGITS = 9  # of written fractions: below a thousandth of a pixel


def matches(path: Path, content: Any) -> bool:
    """Whether a first line is a class and fractions of the image."""
    return _numbers(str(content)) is not None


def read(
    images: Path, annotations: Path, ids: Sequence[str] | None, report: Report, categories: Sequence[str] | None = None
) -> Iterator[Sample]:
    """Samples of a folder, see :mod:`ocr.data.formats`; names of classes stand in a ``data.yaml`` above it."""
    names = class_names(annotations)
    pairs = list(pair_by_stem(images, annotations, ".txt", "", ids, report))
    rows = [_row(labels, names) for _, labels in pairs]
    for (image, labels), row in zip(pairs, choose_categories(rows, categories, annotations, report)):
        yield sample_of([row], image, labels, report)


def _row(labels: Path, names: dict[int, str]) -> Row:
    entries = []
    for number, line in numbered_lines(decode_text(labels)[0]):
        values = _numbers(line)
        if values is None:
            fault = "expected: class x1 y1 x2 y2 ..., or class cx cy w h, 0 to 1"
            entries.append(Entry(line=number, fault=fault))
            continue
        points: Any = values[1:]
        if len(values) == BOX:
            cx, cy, w, h = points
            points = box(cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
        entries.append(Entry(points, line=number, category=names.get(int(values[0]), str(int(values[0])))))
    return Row(labels.name, entries, 1, RELATIVE)


def _numbers(line: str) -> list[float] | None:
    """The numbers of a line; None where they are no class with a box or a polygon."""
    try:
        values = [float(value) for value in line.split()]
    except ValueError:
        return None
    fits = len(values) == BOX or (len(values) >= BOX + 2 and len(values) % 2 == 1)
    return values if fits and values[0].is_integer() and max(map(abs, values[1:])) <= RELATIVE_LIMIT else None


def class_names(annotations: Path) -> dict[int, str]:
    """Names by number from the nearest ``data.yaml`` at or above a folder of labels; none where there is none."""
    for folder in (annotations, *list(annotations.absolute().parents)[:3]):
        file = folder / "data.yaml"
        if file.is_file():
            try:
                names = yaml.safe_load(decode_text(file)[0])["names"]
                return {int(k): str(v) for k, v in (names.items() if isinstance(names, dict) else enumerate(names))}
            except (yaml.YAMLError, KeyError, *NO_NUMBERS):
                return {}
    return {}


def write(lines: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """Write one image's polygons as class 0; text to ignore is left out, for there is no mark for it."""
    [line] = lines
    size = np.array([line["width"], line["height"]])
    polygons = [np.asarray(polygon, np.float64) / size for polygon, _, ignore in labelled(line) if not ignore]
    return "".join(f"0 {' '.join(f'{v:.{DIGITS}f}' for v in polygon.ravel())}\n" for polygon in polygons)


def describe(images: Mapping[str, str]) -> dict[str, str]:
    """``data.yaml``; without ``path`` its own folder is where the splits lie."""
    return {"data.yaml": yaml.safe_dump({**images, "names": {0: "text"}}, sort_keys=False)}
