"""A tiny run: a small network on a few drawn receipts, through the real runners."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L

from tests.conftest import ROOT
from tests.warm import run_warm

TINY = [
    "model.backbone.name=mobilenetv3_small_050",
    "model.neck.channels=16",
    "model.head.channels=4",
    "model.pipeline.resize.long_side=160",
    "data.train=[{format:synthetic,count:8,seed:1}]",
    "data.val=[{format:synthetic,count:3,seed:2}]",
    "data.test=[{format:synthetic,count:3,seed:3}]",
    "data.geometry.crop_size=[96,96]",
    "data.batch_size=4",
    "data.num_workers=0",
    "trainer=cpu",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=1",
]
COLD = {"OMP_NUM_THREADS", "PYTHONPATH", "PYTHONOPTIMIZE"}  # variables that Python and torch read as they start
OFF = "logger.wandb.enabled=false"
# flat receipts: what a small network learns of sixteen of them in twenty seconds finds most of the text in others
CLEAN = {
    "train": "{format:synthetic,count:16,seed:1,difficulty:0}",
    "val": "{format:synthetic,count:4,seed:2,difficulty:0}",
    "test": "{format:synthetic,count:4,seed:3,difficulty:0}",
}
SMALL = [
    "model.backbone.name=mobilenetv3_small_050",
    "model.neck.channels=16",
    "model.head.channels=8",
    "model.pipeline.resize.long_side=320",
    *(f"data.{split}=[{source}]" for split, source in CLEAN.items()),
    "data.geometry.crop_size=[128,256]",
    "data.batch_size=4",
    "data.num_workers=0",
    "data.epoch_samples=160",
    "trainer=cpu",
    "trainer.precision=32-true",
    "trainer.log_every_n_steps=1",
]
LEARNS = [*SMALL, "optimizer.lr=8e-3", "trainer.max_epochs=5", "seed=7"]  # hmean 0.7 on val, 0.8 on test


def network_config(backbone: str = "mobilenetv3_small_050", neck: int = 16, head: int = 4) -> dict[str, Any]:
    """The description of a small DBDetector with random weights."""
    return {
        "_target_": "ocr.models.detector.DBDetector",
        "backbone": {"_target_": "ocr.models.backbones.timm.TimmBackbone", "name": backbone, "pretrained": False,
                     "kwargs": {}},
        "neck": {"_target_": "ocr.models.necks.fpn.FPN", "_partial_": True, "channels": neck,
                 "adaptive_scale_fusion": False},
        "head": {"_target_": "ocr.models.heads.db.DBHead", "_partial_": True, "channels": head, "prior": 0.1},
    }  # fmt: skip


def run(runner: str, *arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Start a runner as a user would, but for its imports, see :mod:`tests.warm`."""
    command = [sys.executable, str(ROOT / "runners" / f"{runner}.py"), *arguments]
    whole_env = {**os.environ, **env, "COLUMNS": "200"}
    if sys.platform == "linux" and not COLD & set(env):
        return run_warm(command, cwd, whole_env, timeout=400)
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=400, env=whole_env)


@contextlib.contextmanager
def started(
    runner: str, *arguments: str, cwd: Path, stderr: Any = subprocess.PIPE, **env: str
) -> Iterator[subprocess.Popen[str]]:
    """A runner in a process group of its own, as a terminal starts it; what is left of it at the end is killed.

    It heeds SIGINT, even where the tests were started in the background by a shell that had them ignore it. Its
    lines do not count for the tests' coverage, which would make its start half as long again: most are killed.
    When the test fails, the failure shows whether it was still running, where it stood, and its last lines.
    """
    uncounted = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, str(ROOT / "runners" / f"{runner}.py"), *arguments]
    process = subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=stderr, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        env={**uncounted, "PYTHONFAULTHANDLER": "1", **env, "COLUMNS": "200"},
    )  # fmt: skip
    try:
        yield process
    except BaseException as error:
        state = process.poll()
        error.add_note(f"{runner} {'was running' if state is None else f'had ended with {state}'}")
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired, ValueError):
            if state is None:
                os.killpg(process.pid, signal.SIGABRT)  # faulthandler writes where each thread stands
            _, lines = process.communicate(timeout=10)
            error.add_note((lines or "")[-10_000:])
        raise
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def loader_workers(process: subprocess.Popen[str]) -> list[int]:
    """Process ids of a training's loader workers: what it has forked, which has its command line; on Linux."""
    mine = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in children if Path(f"/proc/{pid}/cmdline").read_bytes() == mine]


def wait_for(condition: Callable[[], Any], seconds: float = 120) -> Any:
    """What ``condition()`` gives, once that is true; AssertionError after that long."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)
    return value


def inspect(folder: Path) -> dict[str, Any]:
    """``wandb leet inspect --summary --json`` of the one W&B record below a run folder."""
    return json.loads(_leet(folder, "--summary", "--json"))


def history(folder: Path) -> list[dict[str, Any]]:
    """Rows that ``run.log`` wrote into the one W&B record below a run folder; of pictures only the key counts."""
    records = [json.loads(line) for line in _leet(folder, "--json").splitlines()]
    rows = [record["history"]["item"] for record in records if "history" in record]
    return [{key.split("._type")[0]: value for key, value in row.items()} for row in rows]


def _leet(folder: Path, *options: str) -> str:
    [recorded] = [p for p in folder.glob("wandb/*run-*") if p.is_dir() and not p.is_symlink()]
    command = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", *options, str(recorded)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def run_folder(cwd: Path, name: str = "synthetic") -> Path:
    """The newest run folder below ``cwd``."""
    folders = [p for p in (cwd / "runs" / name).iterdir() if p.is_dir()]
    return max(folders, key=lambda p: p.stat().st_mtime)


class Broken(L.Callback):
    """A callback with a bug."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        raise RuntimeError("planted")


class NotesSamples(L.Callback):
    """Writes down what each rank sees per step; may kill the second one in the middle of a step.

    Args:
        folder: of the notes: a file per rank, with lines of epoch, step and samples.
        kill_at: the step.
    """

    def __init__(self, folder: str, kill_at: int = -1) -> None:
        self.folder, self.kill_at = Path(folder), kill_at

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self.folder.mkdir(exist_ok=True)
        with (self.folder / str(trainer.global_rank)).open("a") as file:
            file.write(json.dumps([trainer.current_epoch, trainer.global_step, batch["index"].tolist()]) + "\n")
        if trainer.global_rank == 1 and trainer.global_step == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


class WaitsFor(L.Callback):
    """Begins to train once a file or folder is there."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        wait_for(self.path.exists)


class StuckOnFirstRank(L.Callback):
    """Rank 0 does not come back, as from a collective of NCCL that another rank never joins."""

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.is_global_zero and trainer.current_epoch == 1:
            time.sleep(10_000)
