"""Predictions as label files, so that a model's output can be corrected in a labelling tool and trained on again.

A writer takes what ``predictions.jsonl`` holds, a dict an image with ``image``, ``width``, ``height``, ``polygons``
and ``scores``, and gives the text of one file that the reader of the same name reads back without loss.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ocr.errors import UserError
from ocr.geometry.polygons import flatten, signed_area
from ocr.utils.files import write_atomic

Line = dict[str, Any]


def coco(lines: Sequence[Line], names: Sequence[str]) -> str:
    """COCO instances, one category ``text``; the score of a polygon is its annotation's ``score``."""
    images = [
        {"id": k, "file_name": name, "width": line["width"], "height": line["height"]}
        for k, (line, name) in enumerate(zip(lines, names), start=1)
    ]
    annotations = []
    for k, line in enumerate(lines, start=1):
        for polygon, score in zip(line["polygons"], line["scores"], strict=True):
            points = np.asarray(polygon, np.float64)
            low, high = points.min(axis=0), points.max(axis=0)
            area = abs(float(signed_area(*flatten([points]))[0]))
            annotations.append({
                "id": len(annotations) + 1, "image_id": k, "category_id": 1, "iscrowd": 0, "area": round(area, 2),
                "bbox": np.round([*low, *(high - low)], 2).tolist(), "score": score,
                "segmentation": [[v for point in polygon for v in point]],
            })  # fmt: skip
    return json.dumps(
        {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "text"}]}, ensure_ascii=False
    )


def paddle(lines: Sequence[Line], names: Sequence[str]) -> str:
    """PaddleOCR's list, which PPOCRLabel opens; transcriptions are empty."""
    rows = []
    for line, name in zip(lines, names):
        entries = [{"transcription": "", "points": polygon, "difficult": False} for polygon in line["polygons"]]
        rows.append(f"{name}\t{json.dumps(entries, ensure_ascii=False)}\n")
    return "".join(rows)


def competition(lines: Sequence[Line], names: Sequence[str]) -> str:
    """The receipt competition's JSON."""
    images = {
        name: {
            "img_w": line["width"],
            "img_h": line["height"],
            "words": {f"{k:04d}": {"points": polygon} for k, polygon in enumerate(line["polygons"], start=1)},
        }
        for line, name in zip(lines, names)
    }
    return json.dumps({"images": images}, ensure_ascii=False)


def competition_csv(lines: Sequence[Line], names: Sequence[str]) -> str:
    """The receipt competition's submission: ``filename,polygons``, coordinates apart by blanks, polygons by bars."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["filename", "polygons"])
    for line, name in zip(lines, names):
        polygons = [" ".join(_number(v) for point in polygon for v in point) for polygon in line["polygons"]]
        writer.writerow([name, "|".join(polygons)])
    return text.getvalue()


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


WRITERS: dict[str, tuple[Callable[[Sequence[Line], Sequence[str]], str], str]] = {
    "coco": (coco, "coco.json"),
    "paddle": (paddle, "Label.txt"),
    "competition": (competition, "competition.json"),
    "competition_csv": (competition_csv, "competition.csv"),
}


def check_formats(formats: Sequence[str]) -> None:
    """Raise UserError where a format has no writer."""
    for name in formats:
        if name not in WRITERS:
            raise UserError(f"no predictions can be written as {name!r}; known: {', '.join(WRITERS)}")


def write_formats(predictions: Path, formats: Sequence[str], folder: Path) -> dict[str, Path]:
    """Label files of a ``predictions.jsonl``.

    Args:
        predictions: the file.
        formats: keys of :data:`WRITERS`.
        folder: where they go.

    Returns:
        The files by format. Image names in them are relative to the images' common folder: that is the ``images``
        of a data config that reads them.
    """
    check_formats(formats)
    with predictions.open(encoding="utf-8") as file:  # line by line: a name may hold what else ends a line
        lines = [json.loads(line) for line in file]
    paths = [line["image"] for line in lines]
    common = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""
    names = [Path(os.path.relpath(path, common) if common else path).as_posix() for path in paths]
    files = {}
    for name in formats:
        write, file = WRITERS[name]
        files[name] = write_atomic(folder / file, write(lines, names).encode("utf-8", "backslashreplace"))
    return files
