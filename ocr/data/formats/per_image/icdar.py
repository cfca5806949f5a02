"""ICDAR 2013 to 2019: ``gt_<stem>.txt`` per image, boxes, quads or polygons with their text, ``###`` = ignore."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ocr.data.formats.pairing import pair_by_stem
from ocr.data.formats.quad_lines import is_quad_line, read_quad_file, write_quad_lines
from ocr.data.index.report import Report
from ocr.types import Sample

SUFFIXES = (".txt",)
FILE = "gt_{stem}.txt"
ALIKE = ("sroie",)  # the same lines; which of the two a .txt file is, its content does not say


def matches(path: Path, content: Any) -> bool:
    """Whether a first line begins with the corners of a text."""
    return is_quad_line(content)


def naming(annotations: Path) -> tuple[str, str]:
    """(suffix, optional prefix) of the label files."""
    return ".txt", "gt_"


def read(images: Path, annotations: Path, ids: Sequence[str] | None, report: Report) -> Iterator[Sample]:
    """Samples of a set in ICDAR 2015 form, see :mod:`ocr.data.formats`."""
    for image, labels in pair_by_stem(images, annotations, *naming(annotations), ids, report):
        yield read_quad_file(image, labels, report)


def write(lines: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """Write one image's lines, ``x1,y1,...,text``."""
    return write_quad_lines(lines[0], "###")
