"""Indexes of large sets on disk, so that the second start reads no label file.

An index is found again by a stamp over the names, sizes and times of all files of the set: a changed, added or
removed file gives another stamp.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from ocr.data.index import SampleIndex, StringTable
from ocr.data.report import Report

log = logging.getLogger(__name__)
VERSION = 1  # of the readers and checks: raise it when they come to other results
WORTHWHILE = 2000  # samples; smaller sets are read anew each time


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME`` or ``~/.cache``, and below it a folder of ours."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "receipt-text-detection", "index")


def stamp(settings: Any, paths: Iterable[Path]) -> str:
    """Hex digest of the settings and of the name, size and time of every file at or below the paths."""
    digest = hashlib.sha256(json.dumps([VERSION, settings], sort_keys=True, default=str).encode())
    for path in paths:
        for name, size, time in sorted(_files(path)):
            digest.update(f"{name}\0{size}\0{time}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]


def _files(path: Path) -> Iterable[tuple[str, int, int]]:
    if path.is_file():
        status = path.stat()
        yield str(path), status.st_size, status.st_mtime_ns
    elif path.is_dir():
        for entry in os.scandir(path):
            if entry.is_dir():
                yield from _files(Path(entry.path))
            else:
                status = entry.stat()
                yield entry.path, status.st_size, status.st_mtime_ns


def cached(key: str, report: Report, build: Callable[[Report], SampleIndex]) -> SampleIndex:
    """The index stored under a stamp, or a new one, stored when it is large.

    Args:
        report: gets the problems that were found when the index was built.
        build: makes the index; not called when it is stored and ``report.strict`` is off.
    """
    path = cache_folder() / f"{key}.npz"
    if path.is_file() and not report.strict:
        try:
            with np.load(path) as stored:
                index = _unpack(stored)
                report.merge(json.loads(stored["report"].tobytes()))
            return index
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            log.warning("the stored index %s cannot be read (%s): reading the labels again", path, error)
    fresh = Report(report.strict)
    index = build(fresh)
    report.merge(fresh.to_dict())
    if len(index) >= WORTHWHILE:
        _store(path, index, fresh)
    return index


def _store(path: Path, index: SampleIndex, report: Report) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as file:
            np.savez(
                file,
                path_data=index.paths.data,
                path_offsets=index.paths.offsets,
                sizes=index.sizes,
                instance_offsets=index.instance_offsets,
                points=index.points,
                point_offsets=index.point_offsets,
                ignore=index.ignore,
                text_data=index.texts.data,
                text_offsets=index.texts.offsets,
                report=np.frombuffer(json.dumps(report.to_dict()).encode(), np.uint8),
            )
        os.replace(file.name, path)
    except OSError as error:
        log.warning("the index cannot be stored in %s (%s): the next start reads the labels again", path.parent, error)


def _unpack(stored: Any) -> SampleIndex:
    return SampleIndex(
        StringTable(stored["path_data"], stored["path_offsets"]),
        stored["sizes"],
        stored["instance_offsets"],
        stored["points"],
        stored["point_offsets"],
        stored["ignore"],
        StringTable(stored["text_data"], stored["text_offsets"]),
    )
