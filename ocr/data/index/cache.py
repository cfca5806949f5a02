"""Indexes of large sets on disk, so that the second start reads no label file.

An index is found again by a stamp over the names, sizes and times of all files of the set: a changed, added or
removed file gives another stamp, and so does other code of the readers.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from ocr.data.index.arrays import Index
from ocr.data.index.report import Report
from ocr.utils.files import flush_files
from ocr.utils.memory import trim_malloc

log = logging.getLogger(__name__)
READERS = ("formats", "index")  # folders of ocr/data whose code decides what an index holds
UNUSED_LIMIT_SECONDS = 30 * 24 * 3600  # after which a folder of the cache is removed
MIN_SAMPLES = 2000  # samples; smaller sets are read each time
REPORT = "report.json"


def cache_folder(kind: str) -> Path:
    """``$XDG_CACHE_HOME/receipt-text-detection/<kind>``, else below ``~/.cache``; kinds: ``index``, ``rendered``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "receipt-text-detection", kind)


def stamp(settings: Any, paths: Iterable[Path]) -> str:
    """Hex digest of the settings and of the name, size and time of every file at or below the paths."""
    digest = hashlib.sha256(json.dumps([_code(), settings], sort_keys=True, default=str).encode())
    for path in paths:
        for name, size, changed in sorted(_files(path)):
            digest.update(f"{name}\0{size}\0{changed}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]


@functools.cache
def _code() -> str:
    """Hex digest of the code that reads and checks labels, so that an index of older code is not used."""
    digest = hashlib.sha256()
    for folder in READERS:
        for path in sorted((Path(__file__).parents[1] / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def remove_unused(folder: Path) -> None:
    """Remove the folders of a cache that nothing has used for :data:`UNUSED_LIMIT_SECONDS`."""
    oldest = time.time() - UNUSED_LIMIT_SECONDS
    for other in folder.iterdir():
        if other.stat().st_mtime < oldest:
            shutil.rmtree(other, ignore_errors=True)


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


AnyIndex = TypeVar("AnyIndex", bound=Index)


def cached(key: str, report: Report, build: Callable[[Report], AnyIndex], kind: type[AnyIndex]) -> AnyIndex:
    """The index stored under a stamp, or a new one, stored when it is large.

    Args:
        report: gets the problems that were found when the index was built.
        build: makes the index; not called when it is stored and ``report.strict`` is off.
        kind: its class.
    """
    folder = cache_folder("index") / key
    if folder.is_dir() and not report.strict:
        try:
            index = kind.open(folder)
            with contextlib.suppress(OSError):  # a cache that cannot be written is not cleaned either
                os.utime(folder)
            report.merge(json.loads((folder / REPORT).read_text(encoding="utf-8")))
            return index
        except (OSError, ValueError, EOFError) as error:
            log.warning("the stored index %s cannot be read (%s): reading the labels again", folder, error)
    fresh = Report(report.strict)
    index = build(fresh)
    report.merge(fresh.to_dict())
    if len(index) >= MIN_SAMPLES:
        index = _stored(folder, index, fresh)
        trim_malloc()  # the index that was built, and several times as much that building it took
    return index


def _stored(folder: Path, index: AnyIndex, report: Report) -> AnyIndex:
    """The index, mapped from where it was written; as it is where nothing can be written."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            part, old = Path(temporary, "new"), Path(temporary, "old")
            part.mkdir()
            index.save(part)
            (part / REPORT).write_text(json.dumps(report.to_dict()), encoding="utf-8")
            flush_files(part)
            if folder.exists():
                folder.rename(old)  # a damaged one; who has it mapped keeps it
            part.rename(folder)
        remove_unused(folder.parent)
        return type(index).open(folder)
    except OSError as error:
        log.warning("the index cannot be stored in %s (%s): the next start reads the labels again", folder, error)
        return index
