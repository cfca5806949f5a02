"""ICDAR 2015: ``gt_<stem>.txt`` a image, UTF-8 with or without a byte order mark, word quads, ``###`` = ignore."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ocr.data.formats.files import pair_by_stem
from ocr.data.formats.per_image.quad_lines import read_quad_file
from ocr.data.index.report import Report
from ocr.types import Sample


def naming(annotations: Path) -> tuple[str, str]:
    """(suffix, optional prefix) of the label files."""
    return ".txt", "gt_"


def read(images: Path, annotations: Path, ids: Sequence[str] | None, report: Report) -> Iterator[Sample]:
    """Samples of a set in ICDAR 2015 form, see :mod:`ocr.data.formats`."""
    for image, labels in pair_by_stem(images, annotations, *naming(annotations), ids, report):
        yield read_quad_file(image, labels, report)
