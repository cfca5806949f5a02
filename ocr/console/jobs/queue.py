"""Jobs that the console has started: files in ``<runs>/.console/``, so that they outlive the server.

A job is a folder with ``job.json`` (what to run), ``output.log`` (what it prints), ``process.json`` (the process that
waits for its turn and runs it, see :mod:`ocr.console.jobs.process`) and, in the end, ``end.json`` (its exit code).
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from ocr.jobs.command_line.overrides import CONFIGS
from ocr.utils.files import write_atomic

FOLDER = ".console"
TRAINING, AUDIT, SYNC = "training", "audit", "sync"  # kinds of jobs; the last two wait for no turn
TEXT_BYTES = 50_000_000  # read of a file


@dataclass(frozen=True)
class QueuedJob:
    """A job of the console.

    Attributes:
        folder: its own; the name begins with the time of its order.
        content: of ``job.json``: ``command``, ``run``, its run folder, ``gpus``, and ``kind``.
    """

    folder: Path
    content: dict[str, Any]

    @property
    def run(self) -> Path:
        return Path(self.content["run"])

    @property
    def state(self) -> str:
        """``queued``, ``running``, ``finished``, ``interrupted``, ``failed``, or ``lost``: killed, with its process."""
        end = read_json(self.folder / "end.json")
        if isinstance(end.get("exit_code"), int):
            return {0: "finished", 130: "interrupted", 143: "terminated"}.get(end["exit_code"], "failed")
        if process_of(self.folder) is None:
            return "lost"
        return "running" if (self.folder / "began").exists() else "queued"

    def stop(self) -> None:
        """Stop a job as Ctrl-C in its terminal: signal its process group; a job that has not begun never begins."""
        write_atomic(self.folder / "stop", "")
        process = process_of(self.folder)
        if process is not None and (self.folder / "began").exists():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)


def read_text(path: Path, limit: int = TEXT_BYTES) -> str:
    """The end of a file; empty where there is none.

    Who can write there may read less than this process: links are not followed. A named pipe would be waited for.
    """
    try:
        if path.parent.is_symlink():
            return ""
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return ""
            file.seek(max(0, status.st_size - limit))
            return file.read(limit).decode("utf-8", "replace").replace("\0", "")
    except OSError:
        return ""


def read_json(path: Path) -> dict[str, Any]:
    """A file's content; empty where it is not there, a link, or no JSON object."""
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def process_of(folder: Path) -> psutil.Process | None:
    """The live process of a job; one that has got its number later is another."""
    noted = read_json(folder / "process.json")
    try:
        process = psutil.Process(noted["pid"])
        same = abs(process.create_time() - noted["created"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except (KeyError, TypeError, ValueError, psutil.Error):
        return None
    return process if same else None


def jobs_of(runs: Path, kind: str = TRAINING) -> list[QueuedJob]:
    """All jobs of a kind whose run lies below a folder, the oldest first."""
    jobs = [(path.parent, read_json(path)) for path in sorted((runs / FOLDER).glob("*/job.json"))]
    sound = [(f, job) for f, job in jobs if isinstance(job.get("run"), str) and job.get("kind", TRAINING) == kind]
    return [QueuedJob(folder, job) for folder, job in sound if Path(job["run"]).is_relative_to(runs)]


def environment() -> dict[str, str]:
    """The environment of processes that run modules of the project, which may be a plain checkout and not installed."""
    paths = [str(CONFIGS.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def submit(runs: Path, command: Sequence[str], run: Path, gpus: int = 0, kind: str = TRAINING) -> QueuedJob:
    """Queue a command in a process of its own, which outlives the server and the browser.

    Args:
        runs: folder of all runs.
        command: an argument list.
        run: folder that the job will write to.
        gpus: how many cards a training wants, -1 for all; one training without cards runs at a time.
        kind: of the job.
    """
    folder = runs / FOLDER / f"{time.time():.3f}_{secrets.token_hex(3)}"
    content = {"command": list(command), "run": str(run), "gpus": gpus, "kind": kind}
    write_atomic(folder / "job.json", json.dumps(content, indent=1))
    with (folder / "output.log").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "ocr.console.jobs.process", str(folder)],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            env=environment(),
        )  # fmt: skip
    created = psutil.Process(process.pid).create_time()
    write_atomic(folder / "process.json", json.dumps({"pid": process.pid, "created": created}))
    return QueuedJob(folder, content)
