"""Workers of a sweep through Hydra's launchers, in the environment of make setup EXTRAS=dev,sweep."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ocr.jobs.sweep import launching
from ocr.utils.machine import cores
from tests.tiny import LEARNS, OFF, TINY, run, started, wait_for

pytestmark = pytest.mark.slow
GRID = ["-m", *TINY, OFF, "trainer.max_epochs=1", "test=false", "+sweep=grid", "optimizer.lr=1e-3,2e-3,3e-3,4e-3",
        "hydra.sweep.dir=sweep"]  # fmt: skip


def needs(launcher: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(f"hydra_plugins.hydra_{launcher}_launcher") is None
    return pytest.mark.skipif(
        missing, reason=f"hydra-{launcher}-launcher is not installed: make setup EXTRAS=dev,sweep"
    )


@needs("ray")
def test_workers_of_ray_share_the_trials(tmp_path: Path):
    done = run("train", *GRID, "hydra/launcher=ray", "sweep.workers=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(p.parent.name for p in tmp_path.glob("sweep/*/metrics.json")) == ["0", "1", "2", "3"]
    assert {p.name for p in tmp_path.glob("sweep/workers/*")} == {"0", "1"}
    rows = list(csv.DictReader((tmp_path / "sweep/sweep.csv").open()))
    assert [row["state"] for row in rows] == ["finished"] * 4 and len({row["optimizer.lr"] for row in rows}) == 4


@needs("joblib")
def test_workers_of_joblib_share_the_trials_and_a_failed_one_counts_in_the_exit_code(tmp_path: Path):
    arguments = [o for o in GRID if not o.startswith("optimizer.lr")]
    lr = "optimizer.lr=1e-3,2e-3,-1"
    done = run("train", *arguments, lr, "hydra/launcher=joblib", "sweep.workers=2", cwd=tmp_path)
    assert done.returncode == 1, done.stderr[-3000:]
    assert "Traceback" not in done.stderr and done.stderr.count("job 2 failed: ") == 1
    assert sorted(p.parent.name for p in tmp_path.glob("sweep/*/metrics.json")) == ["0", "1"]
    assert (tmp_path / "sweep/2/failure.json").is_file()


def test_a_worker_that_slurm_ends_is_not_a_success(monkeypatch: pytest.MonkeyPatch):
    ended = [sys.executable, "-c", "import sys; sys.exit(143)"]
    assert launching.start_worker(ended, ".", OmegaConf.create()) == 143
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setattr(launching, "REQUEUE_WAIT_SECONDS", 0.01)
    with pytest.raises(RuntimeError, match="ended by signal 15"):
        launching.start_worker(ended, ".", OmegaConf.create())
    assert launching.start_worker([sys.executable, "-c", "import sys; sys.exit(3)"], ".", OmegaConf.create()) == 3


def submitted(folder: Path) -> list[int]:
    """Process ids of what submitit has started for a sweep."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:  # it has ended meanwhile
            continue
        if b"submitit.core._submit" in words and any(str(folder).encode() in word for word in words):
            found.append(int(path.parent.name))
    return found


@needs("submitit")
@pytest.mark.parametrize(
    "study",
    [
        pytest.param(["+sweep=grid"], id="study"),
        pytest.param([], id="plain", marks=pytest.mark.skipif(cores() < 4, reason="another minute; on four cores")),
    ],
)
def test_a_preempted_job_goes_on_in_its_own_folder_and_run_with_the_curve_of_an_uninterrupted_one(
    study: list[str], tmp_path: Path
):
    settings = [o for o in LEARNS if not o.startswith(("optimizer.lr=", "trainer.max_epochs="))]
    settings += ["trainer.max_epochs=3", "schedule.warmup_fraction=0.2",
                 "trainer.gradient_clip_val=1.0", "test=false"]  # fmt: skip
    sweep = tmp_path / "sweep"
    command = ["-m", *settings, *study, "optimizer.lr=choice(8e-3)", f"hydra.sweep.dir={sweep}",
               "hydra/launcher=submitit_local"]  # fmt: skip
    with started("train", *command, cwd=tmp_path, stderr=subprocess.DEVNULL, OMP_NUM_THREADS="1") as process:
        wait_for((sweep / "0/checkpoints/last.ckpt").is_file, 240)
        taken_back = submitted(sweep)
        assert taken_back
        for pid in taken_back:
            os.kill(pid, signal.SIGUSR2)
        process.communicate(timeout=300)
    assert process.returncode == 0
    records = [path for path in (sweep / "0/wandb").glob("offline-run-*") if path.is_dir()]
    assert len(records) > 1 and len({path.name.rpartition("-")[2] for path in records}) == 1
    assert not (sweep / "1").exists(), "one job, one folder"
    plain = run("train", *settings, "optimizer.lr=8e-3", OFF, cwd=tmp_path, OMP_NUM_THREADS="1")
    assert plain.returncode == 0, plain.stderr
    [uninterrupted] = tmp_path.glob("runs/*/*/csv/metrics.csv")
    curves = [scores(path) for path in (uninterrupted, sweep / "0/csv/metrics.csv")]
    assert curves[0] == curves[1] and max(curves[0].values()) > 0.2
    figures = [json.loads((path / "metrics.json").read_text()) for path in (uninterrupted.parents[1], sweep / "0")]
    assert figures[0]["val/hmean"] == figures[1]["val/hmean"]


def scores(path: Path) -> dict[int, float]:
    """``val/hmean`` by step, to the last digit."""
    rows = [row for row in csv.DictReader(path.open()) if row.get("val/hmean")]
    return {int(row["step"]): float(row["val/hmean"]) for row in rows}
