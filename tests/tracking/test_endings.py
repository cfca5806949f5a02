"""However a job ends, its W&B run says so: exit code, reason, tag, and nothing lost."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from ocr.tracking.ending import Ending, StepSignals, Terminated, ending_of, signals_raise
from tests.conftest import ROOT
from tests.standin import StandIn
from tests.tiny import OFF, TINY, inspect, run, run_folder, started, wait_for

LONG = [*TINY, "trainer.max_epochs=1000", "trainer.check_val_every_n_epoch=2"]


def test_a_signal_that_waits_for_its_step_outlasts_the_start_of_a_validation():
    signals = StepSignals()
    assert not signals.wait(signal.SIGTERM), "nothing holds it"
    signals.hold()
    assert signals.wait(signal.SIGTERM) and not signals.wait(signal.SIGHUP), "a second one ends the job at once"
    signals.let_through()
    with pytest.raises(Terminated) as end:
        signals.release()
    assert end.value.code == 128 + signal.SIGTERM
    signals.hold()
    signals.let_through()
    assert not signals.wait(signal.SIGTERM)
    signals.release()


def has_trained(cwd: Path) -> bool:
    """A validation has left a checkpoint."""
    return bool(list(cwd.glob("runs/synthetic/*/checkpoints/best.ckpt")))


@pytest.mark.slow
@pytest.mark.parametrize(
    "number, exit_code, tag", [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_is_recorded(number: int, exit_code: int, tag: str, tmp_path: Path):
    with started("train", *LONG, cwd=tmp_path) as process:
        wait_for(lambda: has_trained(tmp_path))
        os.killpg(process.pid, number)  # as a terminal or a job scheduler does it: W&B's service gets it, too
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == exit_code, stderr
    assert "wandb sync" in stderr and "Traceback" not in stderr
    content = inspect(run_folder(tmp_path))
    assert content["exit_code"] == exit_code and content["tags"] == [tag]
    summary = content["summary"]
    assert summary["ended/exit_code"] == exit_code and "by" in summary["ended/reason"]
    assert "best/train/loss" in summary and isinstance(summary["train/loss"], float)
    assert "SCORE_PLACEHOLDER" not in content["name"]
    staged = json.loads(next(run_folder(tmp_path).glob("wandb/offline-run-*/staged/artifacts.json")).read_text())
    assert {alias for entry in staged for alias in entry["aliases"]} == {"best", "last"}


@pytest.mark.slow
def test_a_signal_that_ends_loader_workers_too_is_no_lack_of_memory(tmp_path: Path):
    workers = [a for a in LONG if not a.startswith("data.num_workers")] + ["data.num_workers=2"]
    with started("train", *workers, cwd=tmp_path) as process:
        wait_for(lambda: has_trained(tmp_path))
        os.killpg(process.pid, signal.SIGTERM)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143, stderr
    assert "terminated by SIGTERM" in stderr and "memory" not in stderr and "Traceback" not in stderr
    assert inspect(run_folder(tmp_path))["tags"] == ["terminated"]


@pytest.mark.slow
def test_a_bug_is_recorded_and_keeps_its_traceback(tmp_path: Path):
    broken = ["callbacks.progress._target_=tests.tiny.Broken"]
    done = run("train", *TINY, *broken, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 1 and "RuntimeError: planted" in done.stderr
    content = inspect(run_folder(tmp_path))
    assert content["exit_code"] == 1 and content["tags"] == ["failed"]
    assert content["summary"]["ended/reason"] == "RuntimeError: planted"


@pytest.mark.slow
def test_a_killed_run_has_lost_a_second_at_most(tmp_path: Path):
    with started("train", *LONG, "trainer.check_val_every_n_epoch=1", cwd=tmp_path) as process:
        wait_for(lambda: has_trained(tmp_path))
        csv = run_folder(tmp_path) / "csv/metrics.csv"
        wait_for(lambda: csv.is_file() and len(csv.read_text().splitlines()) > 20)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        steps = len(csv.read_text().splitlines())
    content = inspect(run_folder(tmp_path))
    assert content["config"]["data_fingerprint"]
    assert content["summary"]["_step"] > 10 and steps > 10
    with StandIn() as server:
        sent = run("sync", cwd=tmp_path, **server.env())
        assert sent.returncode == 0 and "sent and confirmed" in sent.stdout, sent.stdout + sent.stderr
        [stored] = server.runs.values()
    assert len(stored.history) > 10


@pytest.mark.slow
def test_signals_end_a_job_without_wandb_alike(tmp_path: Path):
    with started("train", *LONG, OFF, cwd=tmp_path) as process:
        wait_for(lambda: has_trained(tmp_path))
        os.kill(process.pid, signal.SIGTERM)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143 and "terminated by SIGTERM" in stderr and "Traceback" not in stderr


def test_a_signal_that_is_ignored_stays_ignored():
    """``nohup python runners/train.py`` goes on when its terminal is closed."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_raise():
            signal.raise_signal(signal.SIGHUP)
            with pytest.raises(Terminated) as caught:
                signal.raise_signal(signal.SIGTERM)
            assert caught.value.code == 143
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_endings():
    from hydra.errors import InstantiationException

    from ocr.errors import UserError

    assert ending_of(UserError("a\nb")) == Ending(2, "failed", "a")
    assert ending_of(Terminated(signal.SIGHUP)) == Ending(129, "terminated", "terminated by SIGHUP")
    assert ending_of(SystemExit(3)).exit_code == 3 and ending_of(SystemExit(0)).tag == "finished"
    rejected = InstantiationException("Error in call to target 'x'")
    rejected.__cause__ = TypeError("A.__init__() got an unexpected keyword argument 'y'")
    assert ending_of(rejected).exit_code == 2
    lightning = SystemExit(1)
    lightning.__context__ = KeyboardInterrupt()
    assert ending_of(lightning) == Ending(130, "interrupted", "interrupted by Ctrl-C")


@pytest.mark.slow
def test_a_sweep_is_one_group_of_separate_runs_and_a_failed_job_does_not_stop_it(tmp_path: Path):
    bad = "data.test=[{format:synthetic,count:3,seed:3}],[{format:icdar,images:nowhere,annotations:nowhere}]"
    arguments = [a for a in TINY if not a.startswith("data.test=")]
    done = run("train", "-m", *arguments, "trainer.max_epochs=1", bad, "optimizer.lr=1e-3,3e-4", cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert done.stderr.count("failed: image folder not found") == 2, done.stderr
    [sweep] = tmp_path.glob("runs/synthetic/sweep_*")
    contents = [inspect(sweep / str(number)) for number in range(4)]
    records = [json.loads((sweep / str(number) / "wandb_run.json").read_text()) for number in range(4)]
    assert len({c["run_id"] for c in contents}) == 4
    assert [c["exit_code"] for c in contents] == [0, 0, 2, 2]
    assert {r["group"] for r in records} == {f"synthetic_{sweep.name}"}
    for number, content in enumerate(contents):
        assert content["config"]["sweep"]["job"] == number
        rate = ("0.001", "0.0003")[number % 2]
        assert f"optimizer.lr={rate}" in content["config"]["sweep"]["overrides"]
        assert {f"job-{number}", "sweep", f"optimizer.lr={rate}", ("finished", "failed")[number // 2]} <= set(
            content["tags"]
        )
        assert f"optimizer.lr={rate}" in content["config"]["command"]
