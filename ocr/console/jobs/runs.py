"""Run folders as the console shows them: their state, headline figure, curves and log, read from their files alone."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
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

from ocr.console.jobs.queue import FOLDER, QueuedJob, jobs_of, read_json, read_text
from ocr.jobs.command_line.overrides import key_of
from ocr.utils.files import write_atomic

MAX_DEPTH = 5  # folders between the runs' and a run: parts of its name, the sweep's
NOTES = "console.json"  # notes and tags of a run, in its folder
LOG_BYTES = 20_000
MAX_FIGURE = 1e12  # what is larger is no figure of a run
LIVE = ("queued", "running")
CURVES = ("train/loss", "val/hmean")
DATE = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d")
PROGRESS = re.compile(r"epoch (\d{1,9})/(\d{1,9}) .*?(?:left (\S+))?$", re.MULTILINE)


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
        """The name that addresses give it; a path is never taken from an address."""
        return id_of(self.name)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """``metrics.json``; empty before the end."""
        return read_json(self.folder / "metrics.json")

    @cached_property
    def state(self) -> str:
        """State of its job; else ``finished`` with metrics, ``running`` while its process lives, or ``ended``."""
        if self.job is not None and (state := self.job.state) != "lost":
            return state
        if self.is_sweep:
            return "finished" if (self.folder / "sweep.csv").is_file() else "ended"
        if self.metrics:
            noted = str(self.metrics.get("state", "finished"))
            return "ended" if noted in LIVE else noted
        return "running" if self._holder_lives() else "ended"

    def _holder_lives(self) -> bool:
        """Whether the process that its lock file names is there; the lock itself is not touched."""
        lock = self.folder / ".lock"
        try:
            match = re.fullmatch(r"process (\d{1,9}) on (\S+)\n?", read_text(lock))
            if not match or match[2] != socket.gethostname():
                return False
            return psutil.Process(int(match[1])).create_time() <= lock.stat().st_mtime + 1
        except (OSError, ValueError, OverflowError, psutil.Error):
            return False

    @cached_property
    def is_sweep(self) -> bool:
        """Whether it is the folder of a sweep, whose trainings are runs of their own."""
        return self.folder.name.startswith("sweep_") or (self.folder / "sweep.json").is_file()

    @property
    def wandb(self) -> dict[str, str]:
        """``state`` of its W&B record (``offline``, ``uploaded``, ...) and ``url``; empty without a record."""
        noted = read_json(self.folder / "wandb_run.json")
        url = str(noted.get("url") or "")
        if not noted:
            return {}
        return {"state": str(noted.get("state", "")), "url": url if url.startswith(("https://", "http://")) else ""}

    @property
    def headline(self) -> tuple[str, float, str] | None:
        """(key, value, what was selected on its split) of the figure that the run is judged by."""
        key = str(self.metrics.get("headline", ""))
        value, selected = self._figure(key), self.metrics.get("selected_on")
        return None if value is None else (key, value, f"chosen on {selected}" if selected else "")

    @property
    def minutes(self) -> float | None:
        """Minutes that the run took; None before its end."""
        seconds = self._figure("seconds")
        return None if seconds is None else seconds / 60

    def _figure(self, key: str) -> float | None:
        value = self.metrics.get(key)
        return float(value) if isinstance(value, (int, float)) and abs(value) < MAX_FIGURE else None

    @property
    def can_resume(self) -> bool:
        """Whether it has ended and left a checkpoint to go on from."""
        return self.state not in LIVE and (self.folder / "checkpoints/last.ckpt").is_file()

    @property
    def checkpoints(self) -> dict[str, Path]:
        """Files by name: the best one first, then ``last.ckpt``."""
        folder = self.folder / "checkpoints"
        paths = [] if folder.is_symlink() else folder.glob("*.ckpt")
        files = {f.name: f for f in paths if f.is_file() and not f.is_symlink() and not f.name.startswith(".")}
        order = sorted(files, key=lambda name: (name != "best.ckpt", name != "last.ckpt", name))
        return {name: files[name] for name in order}

    @property
    def overrides(self) -> list[str]:
        """Overrides of its command, secrets left out, as Hydra has noted them."""
        try:
            noted = yaml.safe_load(read_text(self.folder / ".hydra/overrides.yaml"))
        except (yaml.YAMLError, ValueError, RecursionError):
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
        own = read_text(path, LOG_BYTES)
        if self.job is not None and (not own or self.state in ("failed", "queued")):
            return read_text(self.job.folder / "output.log", LOG_BYTES) or own
        return own

    @property
    def progress(self) -> tuple[int, int, str] | None:
        """(epochs done, of how many, time left) as its log says."""
        matches = PROGRESS.findall(read_text(self.folder / "run.log", LOG_BYTES))
        return (int(matches[-1][0]), int(matches[-1][1]), matches[-1][2]) if matches else None

    @property
    def notes(self) -> dict[str, Any]:
        """``notes``, ``tags`` and ``archived``."""
        kept = read_json(self.folder / NOTES)
        texts = {key: str(kept.get(key) or "") for key in ("notes", "tags")}
        return {**texts, "archived": kept.get("archived") is True}

    def write_notes(self, **changes: str | bool) -> None:
        """Keep changes of :attr:`notes`."""
        write_atomic(self.folder / NOTES, json.dumps(self.notes | changes, ensure_ascii=False))

    @cached_property
    def curves(self) -> dict[str, list[tuple[float, float]]]:
        """(step, value) of the metrics :data:`CURVES`, from ``csv/metrics.csv``."""
        points: dict[str, list[tuple[float, float]]] = {key: [] for key in CURVES}
        with contextlib.suppress(csv.Error):
            for row in csv.DictReader(read_text(self.folder / "csv/metrics.csv").splitlines()):
                for key in CURVES:
                    with contextlib.suppress(ValueError, TypeError, KeyError):
                        points[key].append((float(row["step"]), float(row[key])))
        return points


def id_of(name: str) -> str:
    """Id of a run by its name."""
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def find_runs(runs: Path, all_users: bool = False) -> list[Run]:
    """All runs below a folder, the newest first by the time in their names; those in the queue, too.

    Args:
        runs: the folder, absolute.
        all_users: also folders that belong to other users of the machine.
    """
    jobs = {job.run: job for job in jobs_of(runs) if all_users or job.folder.lstat().st_uid == os.getuid()}
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
    for path in folders_in(folder, all_users):
        hydra = path / ".hydra"
        if hydra.is_dir() and not hydra.is_symlink():
            yield path
            continue
        if (path / "sweep.json").is_file():
            yield path
        if depth < MAX_DEPTH:
            yield from _run_folders(path, depth + 1, all_users)


def folders_in(folder: Path, all_users: bool) -> list[Path]:
    """Folders within one, without links and those of other users."""
    folders = []
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            with contextlib.suppress(OSError):
                mine = all_users or entry.stat(follow_symlinks=False).st_uid == os.getuid()
                if entry.name != FOLDER and entry.is_dir(follow_symlinks=False) and mine:
                    folders.append(Path(entry.path))
    return folders
