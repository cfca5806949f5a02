"""ICDAR 2013 to 2019: ``gt_<stem>.txt`` per image, boxes, quads or polygons with their text, ``###`` = ignore."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ocr.data.formats.manifest import Row
from ocr.data.formats.quad_lines import is_quad_line, read_quad_file, write_quad_lines
from ocr.data.index.report import Report

SUFFIXES = (".txt",)
PREFIX = "gt_"
FILE = "gt_{stem}.txt"
ALIKE = ("sroie",)  # the same lines; which of the two a .txt file is, its content does not say


def matches(path: Path, content: Any) -> bool:
    """Whether a first line begins with the corners of a text."""
    return is_quad_line(content)


def rows(labels: Path, report: Report) -> list[Row]:
    """The row of an image's file."""
    return [read_quad_file(labels, report)]


def write(lines: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """Write one image's lines, ``x1,y1,...,text``."""
    return write_quad_lines(lines[0], "###")
