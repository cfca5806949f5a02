"""Predictions as label files, so that a model's output can be corrected in a labelling tool and trained on again."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ocr.data.formats import LabelFormat, label_formats
from ocr.data.formats.files import is_ignored
from ocr.errors import UserError
from ocr.types import Truth
from ocr.utils.files import write_atomic

DIGITS = 3  # of coordinates: a thousandth of a pixel


def writable() -> dict[str, LabelFormat]:
    """The formats that can be written, by name."""
    return {name: chosen for name, chosen in label_formats().items() if chosen.write and chosen.file}


def check_formats(formats: Sequence[str]) -> None:
    """Raise UserError where a format has no writer."""
    for name in formats:
        if name not in writable():
            raise UserError(f"no predictions can be written as {name!r}; known: {', '.join(writable())}")


def write_formats(predictions: Path, formats: Sequence[str], folder: Path) -> dict[str, Path]:
    """Label files of a ``predictions.jsonl``.

    Args:
        predictions: the file.
        formats: names of formats, see :func:`writable`.
        folder: where they go.

    Returns:
        The files by format. Image names in them are relative to the images' common folder: that is the ``images``
        of a data config that reads them.
    """
    check_formats(formats)
    with predictions.open(encoding="utf-8") as file:  # line by line: a name may hold what else ends a line
        lines = [json.loads(line) for line in file]
    names = names_below([line["image"] for line in lines])
    files = {}
    for name in formats:
        files[name] = write_labels(writable()[name], lines, names, folder, name)
    return files


def names_below(paths: Sequence[str]) -> list[str]:
    """Names of images relative to their common folder, with ``/`` between the parts."""
    common = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""
    return [Path(os.path.relpath(path, common) if common else path).as_posix() for path in paths]


def label_line(name: str, width: int, height: int, truth: Truth) -> dict[str, Any]:
    """Labels of an image, width x height pixels, as writers take them."""
    polygons = [[[round(float(v), DIGITS) for v in point] for point in polygon] for polygon in truth.polygons]
    return {"image": name, "width": width, "height": height, "polygons": polygons, "scores": [1.0] * len(polygons),
            "texts": [*truth.texts], "ignore": np.asarray(truth.ignore, bool).tolist()}  # fmt: skip


def drop_what_cannot_be_said(chosen: LabelFormat, lines: Sequence[dict[str, Any]]) -> list[str]:
    """Empty the transcriptions that would be read as a mark for text to ignore; say what a format loses."""
    said = []
    marks = [(line, k) for line in lines for k, text in enumerate(line["texts"]) if is_ignored(text)]
    marks = [(line, k) for line, k in marks if not line["ignore"][k]]
    if chosen.marks_ignored and marks:
        for line, k in marks:
            line["texts"][k] = ""
        said.append(f"{len(marks)} text(s) that count read like the mark for text to ignore, e.g. '*': written without "
                    "their transcription")  # fmt: skip
    if not chosen.marks_ignored and (lost := sum(sum(line["ignore"]) for line in lines)):
        said.append(f"{chosen.name} has no mark for text to ignore: {lost} text(s) are left out")
    if not chosen.has_texts and (lost := sum(bool(text) for line in lines for text in line["texts"])):
        said.append(f"{chosen.name} has no transcriptions: those of {lost} text(s) are lost")
    return said


def write_labels(
    chosen: LabelFormat, lines: Sequence[dict[str, Any]], names: Sequence[str], folder: Path, called: str
) -> Path:
    """Write labels of images in a format: one file, or a folder with a file per image.

    Args:
        chosen: the format, see :func:`writable`.
        lines: as in ``predictions.jsonl``; with ``texts`` and ``ignore`` where these are known.
        names: of the images, relative to the folder of images.
        folder: where the file or the folder goes.
        called: name of the folder.
    """
    assert chosen.write is not None
    assert chosen.file is not None
    if not chosen.per_image:
        return write_atomic(folder / chosen.file, chosen.write(lines, names).encode("utf-8", "backslashreplace"))
    target = folder / called
    for line, name in zip(lines, names):
        file = target / Path(name).parent / chosen.file.format(stem=Path(name).stem)
        write_atomic(file, chosen.write([line], [name]).encode("utf-8", "backslashreplace"))
    return target
