"""Run folders as the console shows them: their state, headline figure, curves and log, read from their files alone."""

from __future__ import annotations

import csv
import hashlib
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import yaml

from ocr.console.queue import FOLDER, QueuedJob, jobs_of, read_json
from ocr.jobs.command_line.overrides import key_of
from ocr.utils.files import write_atomic

MAX_DEPTH = 5  # folders between the runs' and a run: parts of its name, the sweep's
NOTES = "console.json"  # notes and tags of a run, in its folder
LOG_BYTES = 20_000
DATE = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d")
PROGRESS = re.compile(r"epoch (\d+)/(\d+) .*?(?:left (\S+))?$", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes:
        folder: absolute.
        name: relative to the folder of all runs.
        job: of the console, if that has started it.
    """

    folder: Path
    name: str
    job: QueuedJob | None = None

    @property
    def id(self) -> str:
        """What addresses name it by; a path is never taken from an address."""
        return id_of(self.name)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """``metrics.json``; empty before the end."""
        return read_json(self.folder / "metrics.json")

    @cached_property
    def state(self) -> str:
        """That of its job; else ``finished`` with metrics, ``running`` while its process lives, or ``ended``."""
        if self.job is not None and (state := self.job.state) != "lost":
            return state
        if self.metrics:
            return str(self.metrics.get("state", "finished"))
        return "running" if self._holder_lives() else "ended"

    def _holder_lives(self) -> bool:
        """Whether the process that its lock file names is there; the lock itself is not touched."""
        lock = self.folder / ".lock"
        try:
            match = re.fullmatch(r"process (\d+) on (\S+)\n?", lock.read_text())
            if not match or match[2] != socket.gethostname():
                return False
            return psutil.Process(int(match[1])).create_time() <= lock.stat().st_mtime + 1
        except (OSError, psutil.Error):
            return False

    @property
    def headline(self) -> tuple[str, float, str] | None:
        """(key, value, what was selected on its split) of the figure that the run is judged by."""
        key = str(self.metrics.get("headline", ""))
        value = self.metrics.get(key)
        if not isinstance(value, (int, float)):
            return None
        selected = self.metrics.get("selected_on")
        return key, float(value), f"chosen on {selected}" if selected else ""

    @property
    def overrides(self) -> list[str]:
        """Of its command, secrets left out, as Hydra has noted them."""
        try:
            noted = yaml.safe_load(_text(self.folder / ".hydra/overrides.yaml"))
        except yaml.YAMLError:
            return []
        own = ("paths.output",)  # which the console adds
        return [o for override in noted if key_of(o := str(override)) not in own] if isinstance(noted, list) else []

    @property
    def settings(self) -> dict[str, str]:
        """Overrides by their setting, for the differences of runs."""
        return {key_of(override): override.partition("=")[2] for override in self.overrides}

    @property
    def log(self) -> str:
        """The end of its log; before there is one, what its process has printed."""
        path = self.folder / "run.log"
        own = _tail(path)
        if self.job is not None and (not own or self.state in ("failed", "queued")):
            return _tail(self.job.folder / "output.log") or own
        return own

    @property
    def progress(self) -> tuple[int, int, str] | None:
        """(epochs done, of how many, time left) as its log says."""
        found = PROGRESS.findall(_tail(self.folder / "run.log"))
        return (int(found[-1][0]), int(found[-1][1]), found[-1][2]) if found else None

    @property
    def notes(self) -> dict[str, Any]:
        """``notes``, ``tags`` and ``archived``."""
        return {"notes": "", "tags": "", "archived": False} | read_json(self.folder / NOTES)

    def write_notes(self, content: str) -> None:
        """Keep notes and tags."""
        write_atomic(self.folder / NOTES, content)

    def curves(self, keys: tuple[str, ...] = ("train/loss", "val/hmean")) -> dict[str, list[tuple[float, float]]]:
        """(step, value) of metrics, from ``csv/metrics.csv``."""
        points: dict[str, list[tuple[float, float]]] = {key: [] for key in keys}
        paths = [path for path in (self.folder / "csv/metrics.csv", self.folder / "metrics.csv") if path.is_file()]
        if paths:
            for row in csv.DictReader(_text(paths[0]).splitlines()):
                for key in keys:
                    if row.get(key):
                        points[key].append((float(row["step"]), float(row[key])))
        return points


def id_of(name: str) -> str:
    """Id of a run by its name."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def find_runs(runs: Path, all_users: bool = False) -> list[Run]:
    """All runs below a folder, the newest first by the time in their names; those in the queue, too.

    Args:
        runs: the folder, absolute.
        all_users: also folders that belong to other users of the machine.
    """
    jobs = {job.run: job for job in jobs_of(runs)}
    folders = list(_run_folders(runs, 0, all_users))
    there = set(folders)
    folders += [run for run, job in jobs.items() if run not in there and job.state != "lost"]
    named = [Run(folder, folder.relative_to(runs).as_posix(), jobs.get(folder)) for folder in folders]
    return sorted(named, key=lambda run: (_date(run.name), run.name), reverse=True)


def _date(name: str) -> str:
    """The date and time in a run's name, or in that of its sweep."""
    match = DATE.search(name)
    return match[0] if match else ""


def _run_folders(folder: Path, depth: int, all_users: bool) -> Iterator[Path]:
    try:
        entries = [entry for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for entry in entries:
        if entry.name == FOLDER or (not all_users and entry.stat(follow_symlinks=False).st_uid != os.getuid()):
            continue
        if os.path.isdir(os.path.join(entry.path, ".hydra")):
            yield Path(entry.path)
        elif depth < MAX_DEPTH:
            yield from _run_folders(Path(entry.path), depth + 1, all_users)
