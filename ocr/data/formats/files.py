"""Images, label files and points, for the readers of all formats."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ocr.data.index.report import Report
from ocr.errors import UserError
from ocr.types import Instance

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp"})
IGNORED_TEXTS = frozenset({"###", "*"})


def list_images(folder: Path) -> dict[str, Path]:
    """Image files below a folder, sub-folders included, as {path relative to the folder: path}, sorted.

    Raises:
        UserError: the folder does not exist or holds no image.
    """
    if not folder.is_dir():
        raise UserError(f"image folder not found: {folder} (set data.root=<folder>)")
    images = {}
    for directory, _, names in os.walk(folder):
        below = Path(directory).relative_to(folder).as_posix()
        for name in names:
            if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:
                images[name if below == "." else f"{below}/{name}"] = Path(directory, name)
    if not images:
        raise UserError(f"no images in {folder} (looked for {' '.join(sorted(IMAGE_SUFFIXES))})")
    return dict(sorted(images.items()))


def read_ids(path: Path) -> list[str]:
    """An id list: one stem or file name a line; blank lines and repeats are dropped.

    Raises:
        UserError: the file is missing or empty.
    """
    ids = [line.strip() for line in read_text(path).splitlines()]
    ids = list(dict.fromkeys(line for line in ids if line))
    if not ids:
        raise UserError(f"id list is empty: {path}")
    return ids


def read_text(path: Path) -> str:
    """A UTF-8 text file, with or without a byte order mark; other bytes become U+FFFD.

    Raises:
        UserError: the file is missing or unreadable.
    """
    try:
        return path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def read_json(path: Path) -> Any:
    """A JSON file.

    Raises:
        UserError: the file is missing or is no JSON; the message has the line.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not valid JSON: {error.msg}") from error


def label_files(annotations: Path, suffix: str, prefix: str) -> dict[str, Path]:
    """Label files ``<prefix><stem><suffix>`` of a folder as {stem: path}; the prefix is optional.

    Raises:
        UserError: the folder does not exist.
    """
    if not annotations.is_dir():
        raise UserError(f"label folder not found: {annotations} (set data.root=<folder>)")
    labels = {}
    for entry in os.scandir(annotations):
        if entry.name.endswith(suffix) and not entry.name.startswith("."):
            labels[entry.name[: -len(suffix)].removeprefix(prefix)] = Path(entry.path)
    return labels


def stems(images: Path, annotations: Path, suffix: str, prefix: str) -> list[str]:
    """All stems that have an image or a label file, sorted."""
    named = {os.path.splitext(name)[0] for name in list_images(images)}
    return sorted(named | label_files(annotations, suffix, prefix).keys())


def pair_by_stem(
    images: Path, annotations: Path, suffix: str, prefix: str, ids: Sequence[str] | None, report: Report
) -> Iterator[tuple[Path, Path]]:
    """(image, label file) pairs for formats with one label file per image.

    What has no partner is counted in the report.
    """
    labels = label_files(annotations, suffix, prefix)
    by_stem = {os.path.splitext(name)[0]: path for name, path in reversed(list_images(images).items())}
    stems: Iterable[str]
    if ids is None:
        stems = sorted(by_stem.keys() | labels.keys())
    else:
        stems = (os.path.splitext(i)[0] if os.path.splitext(i)[1].lower() in IMAGE_SUFFIXES else i for i in ids)
    for stem in stems:
        image, label = by_stem.get(stem), labels.get(stem)
        if image is None:
            where = label or annotations
            report.add("label_without_image", where, f"no image {stem}.* in {images}")
        elif label is None:
            report.add("image_without_label", image, f"no label {prefix}{stem}{suffix} in {annotations}")
        else:
            yield image, label


class Manifest:
    """Images of a format with one label file for all images, looked up by the name that the file gives.

    Args:
        images: folder that the names are relative to.
        labels: the label file, for messages.
        ids: names or stems to keep; None for all.
    """

    def __init__(self, images: Path, labels: Path, ids: Sequence[str] | None, report: Report) -> None:
        self._by_path = list_images(images)
        self._by_name: dict[str, Path] = {}
        for path in self._by_path.values():
            self._by_name.setdefault(path.name, path)
        self._images, self._labels, self._report = images, labels, report
        self._ids = None if ids is None else set(ids)
        self._seen: set[Path] = set()

    def find(self, name: str, line: int = 0) -> Path | None:
        """The image called ``name``, None when it is not wanted or (counted in the report) not there."""
        stem = os.path.splitext(os.path.basename(name))[0]
        if self._ids is not None and not {name, os.path.basename(name), stem} & self._ids:
            return None
        path = self._by_path.get(name.replace("\\", "/").removeprefix("./"))
        path = path or self._by_name.get(os.path.basename(name))
        if path is None:
            self._report.add("label_without_image", self._labels, f"no image {name} in {self._images}", line)
        else:
            self._seen.add(path)
        return path

    def report_unlabelled(self) -> None:
        """Count the images that no label named."""
        for path in self._by_path.values():
            if path not in self._seen and (self._ids is None or {path.name, path.stem} & self._ids):
                self._report.add("image_without_label", path, f"not in {self._labels}")


def instance_or_report(points: Any, text: str, ignore: bool, where: Path, line: int, report: Report) -> Instance | None:
    """An Instance from ``[[x, y], ...]`` or ``[x1, y1, x2, y2, ...]``; None (counted) when they are no numbers."""
    try:
        polygon = np.asarray(points, np.float32)
        if polygon.ndim == 1 and polygon.size and polygon.size % 2 == 0:
            polygon = polygon.reshape(-1, 2)
        if polygon.ndim != 2 or polygon.shape[1] != 2:
            raise ValueError(f"shape {polygon.shape}")
    except (TypeError, ValueError) as error:
        report.add("unparsable_line", where, f"points of {text!r} are no list of [x, y] ({error})", line)
        return None
    return Instance(polygon, text, ignore, line)
