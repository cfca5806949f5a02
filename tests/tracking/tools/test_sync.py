"""Sending records to a server that is away, falls silent in the middle, or has a part of them already."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ocr.tracking.artifacts import StagedArtifact, write_staged
from ocr.tracking.run import tracked_run
from ocr.tracking.tools.local_runs import LocalRun
from tests.composing import job_for
from tests.standin import StandIn
from tests.tiny import run, wait_for


class FallsSilent(StandIn):
    """A server that makes so many runs and then, like all that come, leaves the request without an answer."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def answer(self, operation: str, v: dict[str, Any]) -> dict[str, Any]:
        data = super().answer(operation, v)
        if operation == "UpsertBucket":
            self.after -= 1
            if self.after == 0:
                self.mood = "stall"
                wait_for(lambda: self.mood != "stall")
        return data


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """W&B's folder of an offline run that is only on disk, below ``runs/`` of the current folder."""
    monkeypatch.chdir(tmp_path)
    with tracked_run(job_for(folder=tmp_path / "runs/x/y"), "training") as tracking:
        assert tracking is not None
        tracking.run.log({"train/loss": 1.0, "trainer/global_step": 0})
    [folder] = (tmp_path / "runs/x/y/wandb").glob("offline-run-*")
    return folder


def state(folder: Path) -> str:
    return json.loads((folder / "wandb_run.json").read_text())["state"]


@pytest.mark.slow
@pytest.mark.parametrize("mood", ["drop", "stall"])
def test_a_server_that_is_away_is_one_line_before_anything_is_sent(mood: str, recorded: Path, tmp_path: Path):
    with StandIn() as server:
        server.mood = mood
        done = run("sync", cwd=tmp_path, **server.env())
        assert done.returncode == 2 and not server.bodies, "only asked whether it is there"
        assert done.stdout.splitlines() == [f"asking {server.url}"]
        [line] = done.stderr.splitlines()
    assert line.startswith(f"error: {server.url} does not answer within 5 s") and "make sync again" in line
    assert state(recorded) == "offline"


@pytest.mark.slow
def test_a_server_that_falls_silent_is_given_up(recorded: Path, tmp_path: Path):
    with FallsSilent(after=1) as server:
        done = run("sync", "--silence=3", cwd=tmp_path, **server.env())
        assert done.returncode == 1, done.stdout + done.stderr
        assert "the server has not answered for" in done.stdout and "1 left" in done.stdout
        assert state(recorded) == "offline"
        server.mood = "up"
        again = run("sync", cwd=tmp_path, **server.env())
    assert again.returncode == 0, again.stdout + again.stderr
    assert list(server.runs) == [LocalRun(recorded).id] and "sent again" not in again.stdout


@pytest.mark.slow
def test_a_stalled_start_of_the_sync_leaves_no_run_behind(recorded: Path, tmp_path: Path):
    (recorded / "staged").mkdir()
    (recorded / "staged/best.ckpt").write_bytes(b"weights")
    lost = StagedArtifact("model-x", "model", ["best"], {}, {"best.ckpt": "best.ckpt"}, {}, used=False)
    write_staged(recorded, [lost])  # not in W&B's log, as when the client has dropped it
    with FallsSilent(after=3) as server:  # two are of ``wandb sync``
        done = run("sync", "--silence=3", cwd=tmp_path, **server.env())
        assert done.returncode == 1 and "could not confirm it: Timed out" in done.stdout, done.stdout + done.stderr
        assert [path for path in recorded.parent.iterdir() if path.is_dir() and not path.is_symlink()] == [recorded]
        server.mood = "up"
        again = run("sync", cwd=tmp_path, **server.env())
    assert again.returncode == 0 and "model-x: sent from the run's folder" in again.stdout, again.stdout + again.stderr
    assert list(server.runs) == [LocalRun(recorded).id]


@pytest.mark.slow
def test_a_stalled_start_of_a_job_leaves_no_empty_run_on_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with FallsSilent(after=1) as server:
        for name, value in server.env().items():
            monkeypatch.setenv(name, value)
        with tracked_run(job_for("logger.init_timeout=4", folder=tmp_path / "runs/x/y"), "training") as tracking:
            assert tracking is not None and tracking.run.offline
            tracking.run.log({"train/loss": 1.0, "trainer/global_step": 0})
        assert len(server.runs) == 1 and not any(stored.history for stored in server.runs.values())
        server.mood = "up"
        sent = run("sync", cwd=tmp_path, **server.env())
        assert sent.returncode == 0, sent.stdout + sent.stderr
        [stored] = server.runs.values()
    assert [row["train/loss"] for row in stored.history] == [1.0] and stored.complete


@pytest.mark.slow
def test_points_that_are_sent_again_are_said(recorded: Path, tmp_path: Path):
    recorded.rename(recorded.with_name(recorded.name.removeprefix("offline-")))  # as an online run is called
    with StandIn() as server:
        done = run("sync", cwd=tmp_path, **server.env())
    assert done.returncode == 0, done.stdout + done.stderr
    [line] = [line for line in done.stdout.splitlines() if "sent again" in line]
    assert "wandb has no public way" in line


@pytest.mark.slow
def test_wandbs_own_telemetry_is_not_waited_for(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It goes to the same server, and a process ends only once that has taken it or half a minute has passed."""
    monkeypatch.delenv("WANDB_ERROR_REPORTING")
    with StandIn() as server:
        done = run("sync", cwd=tmp_path, **server.env())
        assert done.returncode == 0, done.stdout + done.stderr
        assert server.operations and not [body for body in server.bodies if body.startswith(b"/sdk/otel")]
