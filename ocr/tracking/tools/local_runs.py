"""W&B records on this machine: which are there, and which of them the server has."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ocr.errors import UserError
from ocr.tracking.artifacts import read_staged
from ocr.tracking.record import relative
from ocr.tracking.start import RECORD, read_record, run_id_of


@dataclass
class LocalRun:
    """A record on disk.

    Attributes:
        folder: ``.../wandb/[offline-]run-<time>-<id>``.
        record: what :mod:`ocr.tracking.run` noted beside it; empty for a run of another program.
    """

    folder: Path
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return run_id_of(self.folder)

    @property
    def partly_sent(self) -> bool:
        """It was recorded online, so that some of it may have arrived."""
        return not self.folder.name.startswith("offline-")

    @property
    def shown(self) -> str:
        """The folder in a list."""
        return relative(self.folder)

    @property
    def active(self) -> bool:
        """A process is writing to it."""
        return self.record.get("state") == "running" and _alive(self.record.get("pid"))

    @property
    def synced(self) -> bool:
        """The server has all of it, as far as this machine knows."""
        if self.record.get("state") == "uploaded":
            return True
        marked = any(self.folder.glob("*.wandb.synced"))
        try:
            return marked and all(entry.uploaded for entry in read_staged(self.folder))
        except UserError:  # nobody knows what of it the server has
            return False

    def freed(self) -> int:
        """Bytes that deleting it frees; files that lie elsewhere as well free none."""
        files = (p.lstat() for p in self.folder.rglob("*") if p.is_file() or p.is_symlink())
        return sum(stat.st_size for stat in files if stat.st_nlink == 1)


def _alive(pid: int | None) -> bool:
    if not pid:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        pass
    return True


def record_folders() -> list[Path]:
    """Default folders of W&B records."""
    names = ("runs", "wandb", os.environ.get("WANDB_DIR") or "wandb")
    return [Path(name) for name in names if Path(name).is_dir()]


def find_runs(folders: Iterable[Path]) -> list[LocalRun]:
    """Find W&B records below some folders, the oldest first, so that a model comes before its tests."""
    runs: dict[Path, LocalRun] = {}
    for parent in folders:
        for log in _logs(parent):
            folder = log.parent.resolve()
            runs[folder] = LocalRun(folder, _record_of(folder))
    return sorted(runs.values(), key=lambda run: run.folder.name.removeprefix("offline-"))


def _record_of(folder: Path) -> dict[str, Any]:
    """Read the record in a W&B folder, or its copy in the run folder if that names the same W&B run."""
    record = read_record(folder / RECORD, folder.parent.parent / RECORD)
    return record if folder.name.endswith(f"-{record.get('id')}") else {}


def _logs(folder: Path) -> Iterator[Path]:
    if folder.is_file():
        folder = folder.parent
    for pattern in ("*.wandb", "*run-*/*.wandb", "**/wandb/*run-*/*.wandb"):
        yield from folder.glob(pattern)
