"""SROIE task 1: ``<stem>.csv`` (or ``.txt``) per image, one line of text each; there is no ignore mark."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ocr.data.formats.files import pair_by_stem
from ocr.data.formats.per_image.icdar import is_quad_line, read_quad_file
from ocr.data.index.report import Report
from ocr.types import Sample

SUFFIXES = (".csv", ".txt")
ALIKE = ("icdar",)


def matches(path: Path, content: Any) -> bool:
    """Whether a first line begins with the corners of a quadrangle, in a ``.csv`` file."""
    return path.suffix.lower() == ".csv" and is_quad_line(content)


def naming(annotations: Path) -> tuple[str, str]:
    """(suffix, optional prefix) of the label files: ``.csv`` where the folder has one, else ``.txt``."""
    has_csv = annotations.is_dir() and any(entry.name.endswith(".csv") for entry in os.scandir(annotations))
    return ".csv" if has_csv else ".txt", ""


def read(images: Path, annotations: Path, ids: Sequence[str] | None, report: Report) -> Iterator[Sample]:
    """Samples of a set in SROIE form, see :mod:`ocr.data.formats`."""
    for image, labels in pair_by_stem(images, annotations, *naming(annotations), ids, report):
        sample = read_quad_file(image, labels, report)
        for instance in sample.instances:
            instance.ignore = False  # "*" and "###" are printed on receipts
        yield sample
