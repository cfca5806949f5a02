"""Label formats. A reader yields Samples; nothing else in the project knows a label format.

Every reader is a function ``read(images, annotations, ids, report) -> Iterator[Sample]``:

- ``images``: folder of the images; ``annotations``: folder or file of the labels.
- ``ids``: stems or file names to keep, in that order for formats with one label file per image; None for all.
- ``report``: where label lines that do not parse are counted.

Polygons come as the file has them; :mod:`ocr.data.index.check` brings them to normal form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ocr.data.formats.per_image import icdar, sroie
from ocr.data.formats.per_set import coco, competition, competition_csv, doctr, paddle
from ocr.data.index.report import Report
from ocr.errors import UserError
from ocr.types import Sample

Reader = Callable[[Path, Path, "Sequence[str] | None", Report], Iterator[Sample]]

READERS: dict[str, Reader] = {
    "icdar": icdar.read,
    "sroie": sroie.read,
    "paddle": paddle.read,
    "doctr": doctr.read,
    "coco": coco.read,
    "competition": competition.read,
    "competition_csv": competition_csv.read,
}


def reader(name: str) -> Reader:
    """The reader of a format.

    Raises:
        UserError: there is no such format.
    """
    if name not in READERS:
        raise UserError(f"unknown label format {name!r}; known: {', '.join(sorted(READERS))}, synthetic, camera")
    return READERS[name]
