"""SROIE task 1: ``<stem>.csv`` (or ``.txt``) per image, one line of text each; there is no ignore mark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ocr.data.formats.files import walk
from ocr.data.formats.pairing import pair_by_stem
from ocr.data.formats.quad_lines import is_quad_line, read_quad_file, write_quad_lines
from ocr.data.index.report import Report
from ocr.types import Sample

SUFFIXES = (".csv", ".txt")
FILE = "{stem}.csv"
MARKS_IGNORED = False
ALIKE = ("icdar",)


def matches(path: Path, content: Any) -> bool:
    """Whether a first line begins with the corners of a text, in a ``.csv`` file."""
    return path.suffix.lower() == ".csv" and is_quad_line(content)


def naming(annotations: Path) -> tuple[str, str]:
    """(suffix, optional prefix) of the label files: ``.csv`` where the folder has one, else ``.txt``."""
    has_csv = any(name.lower().endswith(".csv") for _, names in walk(annotations) for name in names)
    return ".csv" if has_csv else ".txt", ""


def read(images: Path, annotations: Path, ids: Sequence[str] | None, report: Report) -> Iterator[Sample]:
    """Samples of a set in SROIE form, see :mod:`ocr.data.formats`."""
    for image, labels in pair_by_stem(images, annotations, *naming(annotations), ids, report):
        yield read_quad_file(image, labels, report, keep_marks=True)  # "*" and "###" are printed on receipts


def write(lines: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """Write one image's lines; ignored text is left out, for there is no mark for it."""
    return write_quad_lines(lines[0], None)
