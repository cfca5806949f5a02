"""Label formats: a file each, in ``per_image/`` (one label file per image) or ``per_set/`` (one for all images).

A file registers itself by lying there, under its own name. It has

- ``SUFFIXES``: of its label files, in lower case, e.g. ``(".json",)``;
- ``matches(path, content) -> bool``: whether a label file is of this format; ``content`` is what a ``.json`` file
  holds, and the first line of any other file;
- ``rows(labels, report) -> Iterable[Row]``: what a label file has, a :class:`ocr.data.formats.manifest.Row` per image;
  ``report`` counts label lines that do not parse. Polygons come as the file has them; :mod:`ocr.data.index.check`
  brings them to normal form. Where one file does not tell all, ``read`` in place of it, see :meth:`LabelFormat.read`;
- where it can be written, ``FILE``, a file name, and ``write(lines, names) -> str``: from the lines of
  ``predictions.jsonl`` and the images' names to the text of that file, which is read back without loss. In
  ``per_image/`` the name has ``{stem}`` in it, and there is one line and one name. Lines of labels have ``texts`` and
  ``ignore``, too.

Optional: the other attributes of :class:`LabelFormat`, constants in capitals.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ocr.data.formats.files import walk
from ocr.data.formats.manifest import Row, sample_of, samples_of
from ocr.data.formats.pairing import pair_by_stem
from ocr.data.index.report import Report
from ocr.errors import UserError
from ocr.types import Sample

PER_IMAGE, PER_SET = FOLDERS = ("ocr.data.formats.per_image", "ocr.data.formats.per_set")


@dataclass(frozen=True)
class LabelFormat:
    """A format as its file defines it; see the module's docstring for the other attributes.

    Attributes:
        per_image: whether there is a label file per image.
        prefix: that the names of label files may have before an image's stem.
        alike: names of formats whose label files look the same.
        has_categories: whether objects have categories, of which some may be chosen.
        has_texts: whether transcriptions have a place.
        marks_ignored: whether text can be marked as one to ignore; else ``write`` leaves it out.
        describe: makes {file name: text}, files that a tool wants beside its splits, from the folder of images of each.
    """

    name: str
    per_image: bool
    suffixes: tuple[str, ...]
    matches: Callable[[Path, Any], bool]
    rows: Callable[[Path, Report], Iterable[Row]] | None = None
    own_read: Callable[..., Iterator[Sample]] | None = None
    file: str | None = None
    write: Callable[[Sequence[dict[str, Any]], Sequence[str]], str] | None = None
    prefix: str = ""
    alike: tuple[str, ...] = ()
    has_categories: bool = False
    has_texts: bool = True
    marks_ignored: bool = True
    describe: Callable[[Mapping[str, str]], dict[str, str]] | None = None

    def read(
        self, images: Path, annotations: Path, ids: Sequence[str] | None, report: Report,
        categories: Sequence[str] | None = None,
    ) -> Iterator[Sample]:  # fmt: skip
        """Read a set.

        Args:
            images: folder of the images.
            annotations: file of the labels, or their folder where there is one per image.
            ids: stems or file names of the images to keep; None for all.
            report: gets what is left out.
            categories: names of those to keep, in formats that have them; None for all.

        Raises:
            UserError: a folder is missing, or the file is none of this format.
        """
        if self.own_read:
            chosen = {"categories": categories} if self.has_categories else {}
            yield from self.own_read(images, annotations, ids, report, **chosen)
        elif self.rows and not self.per_image:
            yield from samples_of(self.rows(annotations, report), images, annotations, ids, report, categories)
        elif self.rows:
            for image, labels in pair_by_stem(images, annotations, *self.naming(annotations), ids, report):
                if rows := list(self.rows(labels, report)):
                    yield sample_of(rows, image, labels, report)

    def naming(self, annotations: Path) -> tuple[str, str]:
        """(suffix, optional prefix) of the label files in a folder: the first suffix that it has, else the last."""
        for suffix in self.suffixes[:-1]:
            if any(name.lower().endswith(suffix) for _, names in walk(annotations) for name in names):
                return suffix, self.prefix
        return self.suffixes[-1], self.prefix


@functools.cache
def label_formats() -> dict[str, LabelFormat]:
    """All formats by name."""
    formats = {}
    for folder in FOLDERS:
        for info in pkgutil.iter_modules(importlib.import_module(folder).__path__):
            module = vars(importlib.import_module(f"{folder}.{info.name}"))
            defined = {key.lower(): value for key, value in module.items()} | {"own_read": module.get("read")}
            known = {field.name: defined[field.name] for field in fields(LabelFormat) if field.name in defined}
            formats[info.name] = LabelFormat(**known | {"name": info.name, "per_image": folder == PER_IMAGE})
    return formats


def label_format(name: str) -> LabelFormat:
    """The format of a name.

    Raises:
        UserError: there is none.
    """
    if name not in label_formats():
        known = ", ".join(sorted(label_formats()))
        raise UserError(f"unknown label format {name!r}; known: {known}, synthetic, camera")
    return label_formats()[name]
