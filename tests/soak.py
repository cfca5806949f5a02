"""A long training with faults injected, each of them real: ``python -m tests.soak`` (``make soak``).

A small network learns a set of drawn receipts for 2,000 steps with a validation every 50, recorded by W&B's own client
at the stand-in server. While it runs the server drops out and returns, a picture disappears, a loader worker is killed,
the disk fills and empties, and SIGTERM comes; after each end the run is resumed. Exit code 1 when a promise of
docs/reliability.md is broken.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
from rich.console import Console
from rich.table import Table

from ocr.jobs.make_data import write_icdar
from ocr.utils.machine import cores
from tests.disks import fill, small_disk
from tests.standin import StandIn
from tests.tiny import SMALL, loader_workers, started, wait_for

EPOCH, BATCH = 50, 2  # steps, crops
PICTURES = 24
DISK = 200  # MB
MOST_GAINED = 60  # MB that a run of a thousand steps may gain after its first epochs
PATIENCE = 600  # s; for anything to happen


@dataclass
class Row:
    """One fault.

    Attributes:
        step: of the checkpoint that was there when it came.
        second: since the start.
        happened: what was seen.
        broken: promises that were not kept.
    """

    fault: str
    step: int
    second: float
    happened: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def check(self, kept: bool, promise: str) -> None:
        (self.happened if kept else self.broken).append(promise)


class Soak:
    """The training, the server, the disk, and what was seen."""

    def __init__(self, folder: Path, disk: Path | None, server: StandIn, steps: int) -> None:
        self.folder, self.disk, self.server, self.epochs = folder, disk, server, steps // EPOCH
        self.output = (disk or folder) / "runs"
        self.pictures = write_icdar(folder / "set", PICTURES, 1, 0.0) / "images"
        self.rows: list[Row] = []
        self.memory: list[float] = []  # MB, of the run in progress
        self.started = time.monotonic()
        self.process: subprocess.Popen[str] | None = None
        self.last: Path | None = None  # its last.ckpt

    def arguments(self) -> list[str]:
        if self.last is not None:
            return [f"resume={self.last}"]
        network = [a for a in SMALL if not a.startswith("data.")]
        return [
            *network, "data=folder", f"data.root={self.folder / 'set'}", "data.train.0.hash_range=[0,1]",
            "data.val.0.hash_range=[0,1]", "data.num_workers=1", f"data.batch_size={BATCH}",
            f"data.epoch_samples={BATCH * EPOCH}", "data.geometry.crop_size=[160,224]", "optimizer.lr=5e-3",
            f"trainer.max_epochs={self.epochs}", f"paths.output={self.output}", "logger.transmit_interval=1",
            "name=soak", "test=false",
        ]  # fmt: skip

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """A training, new or resumed; its output goes to a file, which the faults read."""
        before = set(self.output.glob("soak/*"))
        log = self.folder / f"stderr_{len(before)}.txt"
        with log.open("w") as stderr, started("train", *self.arguments(), cwd=self.folder, stderr=stderr,
                                              **self.server.env()) as process:  # fmt: skip
            self.process, self.log, self.memory = process, log, []
            [run] = self.wait(lambda: set(self.output.glob("soak/*")) - before)
            self.last = run / "checkpoints" / "last.ckpt"
            yield

    def wait(self, condition: Callable[[], Any]) -> Any:
        """Until something is so; memory is measured meanwhile."""

        def looked() -> Any:
            self.memory.append(memory(self.process.pid))
            return condition() or (self.process.poll() is not None and "ended")

        found = wait_for(looked, PATIENCE)
        assert found != "ended" or condition(), f"the training has ended:\n{self.log.read_text()[-2000:]}"
        return condition()

    def epochs_done(self) -> int:
        return self.log.read_text().count(" INFO epoch ")

    def wait_epochs(self, number: int) -> None:
        wanted = self.epochs_done() + number
        self.wait(lambda: self.epochs_done() >= wanted)

    def row(self, fault: str) -> Row:
        self.rows.append(Row(fault, self.step(), round(time.monotonic() - self.started, 1)))
        return self.rows[-1]

    def step(self) -> int:
        return self.checkpoint()["global_step"] if self.last and self.last.exists() else 0

    def checkpoint(self) -> dict[str, Any]:
        """``last.ckpt``, which must be whole."""
        return torch.load(self.last, map_location="cpu", weights_only=True)

    def ended(self, row: Row, code: int, words: str) -> None:
        """Wait for the end of the training, and look at all that it has left."""
        self.process.wait(PATIENCE)
        text = self.log.read_text()
        row.check(self.process.returncode == code, f"exit code {code}")
        row.check("Traceback" not in text and "Logging error" not in text, "no traceback")
        said = next((line for line in text.splitlines() if words in line), words)
        row.check(text.count(words) == 1, f"one line: {said[:160]}")
        try:
            values = [v for v in self.checkpoint()["state_dict"].values() if v.is_floating_point()]
            row.check(all(bool(v.isfinite().all()) for v in values), f"last.ckpt whole and finite, step {self.step()}")
        except Exception as error:
            row.broken.append(f"last.ckpt cannot be read: {error}")
        row.check(not list(self.output.glob("**/*.part")), "no part of a file")
        record = json.loads((self.last.parents[1] / "wandb_run.json").read_text())
        row.check(record["exit_code"] == code, f"record: {record['ended']}, {record['state']}")


def memory(pid: int) -> float:
    """MB of a process and its children, shared pages counted once; 0 for one that has gone."""
    total = 0
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in (pid, *children):
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1e3


def server_drops_out(soak: Soak) -> None:
    row = soak.row("W&B drops out and returns")
    soak.server.mood = "drop"
    soak.wait_epochs(3)
    row.happened.append("3 epochs without the server")
    before = len(next(iter(soak.server.runs.values())).history)
    soak.server.mood = "up"
    soak.wait(lambda: len(next(iter(soak.server.runs.values())).history) > before + 2 * EPOCH)
    row.happened.append("the points of the outage arrived after it")


def picture_disappears(soak: Soak) -> None:
    row = soak.row("a picture disappears")
    gone = sorted(soak.pictures.iterdir())[3]
    gone.unlink()
    soak.wait_epochs(2)
    text = soak.log.read_text()
    row.check(f"{gone.name}: No such file or directory; another image takes its place" in text, "named in a warning")
    row.check(f"{gone.name}: No such file or directory; left out" in text, "left out of the validation with a warning")


def worker_killed(soak: Soak) -> None:
    row = soak.row("a loader worker is killed")
    os.kill(wait_for(lambda: loader_workers(soak.process))[0], signal.SIGKILL)
    soak.ended(row, 2, "error: DataLoader worker")


def disk_fills(soak: Soak) -> None:
    row = soak.row("the disk fills")
    if soak.disk is None:
        row.happened.append("not tried: no file system can be mounted here")
        return
    filler = fill(soak.disk)
    soak.ended(row, 2, "error: no space left")
    filler.unlink()
    row.happened.append("emptied")


def sigterm(soak: Soak) -> None:
    row = soak.row("SIGTERM")
    os.kill(soak.process.pid, signal.SIGTERM)
    soak.ended(row, 143, "terminated by SIGTERM")


def comes_to_its_end(soak: Soak) -> None:
    soak.wait_epochs(2)
    row = soak.row("resumed, to the end")
    soak.memory.clear()  # of the start
    while soak.process.poll() is None:
        before = soak.epochs_done()
        soak.wait(lambda before=before: soak.epochs_done() > before or soak.process.poll() is not None)
    soak.ended(row, 0, f"epoch {soak.epochs}/{soak.epochs}")
    steps = soak.epochs * EPOCH
    row.check(soak.step() == steps, f"{steps} steps")
    [run] = soak.server.runs.values()
    seen = {r["trainer/global_step"] for r in run.history if "train/loss" in r}
    row.check(seen == set(range(steps)), f"one W&B run with the loss of {len(seen)} of {steps} steps")
    scores = [r["val/hmean"] for r in run.history if "val/hmean" in r]
    row.check(len(scores) >= soak.epochs, f"{len(scores)} validations, best hmean {max(scores, default=0):.3f}")
    row.check(run.complete and run.exit_code == 0, "the W&B run is complete")
    best = json.loads((soak.last.parents[1] / "metrics.json").read_text())["val/hmean"]
    row.check(best > 0.5 and (soak.last.with_name("best.ckpt")).is_file(), f"best.ckpt with val/hmean {best:.3f}")
    kept = [m for m in soak.memory if m]
    early, late = median(kept[len(kept) // 4 : len(kept) // 2]), median(kept[-len(kept) // 5 :])
    row.check(late - early < MOST_GAINED, f"memory {early:.0f} MB in the second quarter, {late:.0f} MB at the end")


def soak(folder: Path, steps: int) -> list[Row]:
    """All faults, one after the other."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(StandIn())
        disk: Path | None = None
        with contextlib.suppress(pytest.skip.Exception):
            disk = stack.enter_context(small_disk(folder / "disk", DISK))
        job = Soak(folder, disk, server, steps)
        try:
            with job.training():
                job.wait_epochs(3)
                server_drops_out(job)
                picture_disappears(job)
                worker_killed(job)
            for fault in (disk_fills, sigterm):
                with job.training():
                    job.wait_epochs(4)
                    fault(job)
            with job.training():
                comes_to_its_end(job)
        except Exception as error:  # what was seen until then is shown
            job.row("the soak itself").broken.append(f"{type(error).__name__}: {error}")
        return job.rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--steps", type=int, default=2000, help=f"of training, a multiple of {EPOCH} (default: 2000)")
    parser.add_argument("--output", type=Path, default=Path("soak.json"), help="the record (default: soak.json)")
    options = parser.parse_args()
    began = time.monotonic()
    for name in [n for n in os.environ if n.startswith("WANDB_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="soak_") as folder:
        rows = soak(Path(folder), options.steps)
    table = Table("step", "s", "fault", "what happened", "verdict", title="soak", title_justify="left")
    for row in rows:
        seen = "\n".join([*row.happened, *(f"BROKEN: {promise}" for promise in row.broken)])
        table.add_row(str(row.step), f"{row.second:.0f}", row.fault, seen, "broken" if row.broken else "kept")
    Console(width=160).print(table)
    seconds, broken = round(time.monotonic() - began), sum(len(row.broken) for row in rows)
    facts = {"steps": options.steps, "seconds": seconds, "cores": cores(), "broken": broken}
    options.output.write_text(json.dumps({**facts, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    print(f"{options.steps} steps in {seconds} s on {cores()} cores, {broken} promise(s) broken; {options.output}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
