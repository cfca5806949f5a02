"""Label formats: a file each, in ``per_image/`` (one label file per image) or ``per_set/`` (one for all images).

A file registers itself by lying there, under its own name. It has

- ``SUFFIXES``: of its label files, in lower case, e.g. ``(".json",)``;
- ``matches(path, content) -> bool``: whether a label file is of this format; ``content`` is what a ``.json`` file
  holds, and the first line of any other file;
- ``read(images, annotations, ids, report) -> Iterator[Sample]``: ``images`` is the folder of the images,
  ``annotations`` the folder or file of the labels, ``ids`` stems or file names to keep (None for all), ``report``
  counts label lines that do not parse. Polygons come as the file has them; :mod:`ocr.data.index.check` brings them to
  normal form;
- ``naming(annotations) -> (suffix, optional prefix)`` of the label files, in ``per_image/``;
- where it can be written, ``FILE``, a file name, and ``write(lines, names) -> str``: from the lines of
  ``predictions.jsonl`` and the images' names to the text of that file, which ``read`` reads back without loss. In
  ``per_image/`` the name has ``{stem}`` in it, and there is one line and one name. Lines of labels have ``texts`` and
  ``ignore``, too.

Optional: ``ALIKE``, names of formats whose label files look the same; ``MARKS_IGNORED = False`` where no text can be
marked as one to ignore, so that ``write`` leaves it out; ``HAS_TEXTS = False`` where transcriptions have no place;
``describe(images) -> {file name: text}``, files that a tool wants beside its splits, from the folder of images of each.
Where objects have categories, ``read`` takes ``categories``, names of those to keep (None for all).
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ocr.errors import UserError
from ocr.types import Sample

Reader = Callable[..., Iterator[Sample]]  # (images, annotations, ids, report), perhaps categories
FOLDERS = ("ocr.data.formats.per_image", "ocr.data.formats.per_set")


@dataclass(frozen=True)
class LabelFormat:
    """A format as its file defines it; see the module's docstring for the attributes."""

    name: str
    suffixes: tuple[str, ...]
    matches: Callable[[Path, Any], bool]
    read: Reader
    naming: Callable[[Path], tuple[str, str]] | None = None
    file: str | None = None
    write: Callable[[Sequence[dict[str, Any]], Sequence[str]], str] | None = None
    alike: tuple[str, ...] = ()
    marks_ignored: bool = True
    has_texts: bool = True
    describe: Callable[[Mapping[str, str]], dict[str, str]] | None = None

    @property
    def has_categories(self) -> bool:
        """Whether objects have categories, of which some may be chosen."""
        return "categories" in inspect.signature(self.read).parameters


@functools.cache
def label_formats() -> dict[str, LabelFormat]:
    """All formats by name."""
    formats = {}
    for folder in FOLDERS:
        for info in pkgutil.iter_modules(importlib.import_module(folder).__path__):
            module = importlib.import_module(f"{folder}.{info.name}")
            optional = {key: getattr(module, key, None) for key in ("naming", "write", "describe")}
            formats[info.name] = LabelFormat(
                info.name, module.SUFFIXES, module.matches, module.read, file=getattr(module, "FILE", None),
                alike=getattr(module, "ALIKE", ()), marks_ignored=getattr(module, "MARKS_IGNORED", True),
                has_texts=getattr(module, "HAS_TEXTS", True), **optional,
            )  # fmt: skip
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
