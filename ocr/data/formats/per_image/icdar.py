"""ICDAR 2015: ``gt_<stem>.txt`` per image, UTF-8 with or without a byte order mark, word quads, ``###`` = ignore."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ocr.data.formats.files import IGNORED_TEXTS, pair_by_stem, read_text
from ocr.data.index.report import Report
from ocr.types import Instance, Sample

SUFFIXES = (".txt",)
ALIKE = ("sroie",)  # the same lines; which of the two a .txt file is, its content does not say
COORDINATES = 8


def matches(path: Path, content: Any) -> bool:
    """Whether a first line begins with the corners of a quadrangle."""
    return is_quad_line(content)


def naming(annotations: Path) -> tuple[str, str]:
    """(suffix, optional prefix) of the label files."""
    return ".txt", "gt_"


def read(images: Path, annotations: Path, ids: Sequence[str] | None, report: Report) -> Iterator[Sample]:
    """Samples of a set in ICDAR 2015 form, see :mod:`ocr.data.formats`."""
    for image, labels in pair_by_stem(images, annotations, *naming(annotations), ids, report):
        yield read_quad_file(image, labels, report)


def is_quad_line(line: Any) -> bool:
    """Whether a text begins with eight numbers."""
    try:
        return len([float(value) for value in str(line).split(",")[:COORDINATES]]) == COORDINATES
    except ValueError:
        return False


def read_quad_file(image: Path, labels: Path, report: Report) -> Sample:
    """A Sample from one label file.

    The text may hold commas and may be missing; ``###`` and ``*`` mark text to ignore.
    """
    values: list[float] = []
    texts: list[tuple[int, str]] = []
    lines = 0
    for number, line in enumerate(read_text(labels).splitlines(), start=1):
        if not line or line.isspace():
            continue
        lines += 1
        fields = line.split(",", COORDINATES)
        try:
            coordinates = [float(v) for v in fields[:COORDINATES]]
            if len(coordinates) < COORDINATES:
                raise ValueError(f"{len(coordinates)} of {COORDINATES} coordinates")
        except ValueError as error:
            report.add("unparsable_line", labels, f"expected x1,y1,...,x4,y4,text ({error})", number)
            continue
        values += coordinates
        texts.append((number, fields[COORDINATES].strip() if len(fields) > COORDINATES else ""))
    quads = np.array(values, np.float32).reshape(-1, 4, 2)
    instances = [Instance(q, text, text in IGNORED_TEXTS, number) for q, (number, text) in zip(quads, texts)]
    return Sample(image, instances, labels, lines)
