"""SROIE task 1: ``<stem>.csv`` (or ``.txt``) per image, one line of text each; there is no ignore mark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ocr.data.formats.manifest import Row
from ocr.data.formats.quad_lines import is_quad_line, read_quad_file, write_quad_lines
from ocr.data.index.report import Report

SUFFIXES = (".csv", ".txt")
FILE = "{stem}.csv"
MARKS_IGNORED = False
ALIKE = ("icdar",)


def matches(path: Path, content: Any) -> bool:
    """Whether a first line begins with the corners of a text, in a ``.csv`` file."""
    return path.suffix.lower() == ".csv" and is_quad_line(content)


def rows(labels: Path, report: Report) -> list[Row]:
    """The row of an image's file."""
    return [read_quad_file(labels, report, keep_marks=True)]  # "*" and "###" are printed on receipts


def write(lines: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """Write one image's lines; ignored text is left out, for there is no mark for it."""
    return write_quad_lines(lines[0], None)
