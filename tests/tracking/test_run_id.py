"""Which W&B run a job gets when the environment names one: a user, a sweep of Hydra, W&B's own agent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ocr.tracking.run import tracked_run
from ocr.tracking.tools.local_runs import LocalRun
from tests.composing import job_for
from tests.standin import StandIn
from tests.tiny import run, run_folder

BAD = "data.train=[{format:icdar,images:nowhere,annotations:nowhere}]"  # the job ends at once, and is recorded


@pytest.mark.slow
def test_jobs_of_a_sweep_share_no_run(tmp_path: Path):
    done = run("train", "-m", BAD, "optimizer.lr=1e-3,3e-4", cwd=tmp_path, WANDB_RUN_ID="mine", WANDB_RESUME="allow")
    assert done.returncode == 2, done.stderr
    records = [json.loads(path.read_text()) for path in tmp_path.glob("runs/synthetic/sweep_*/*/wandb_run.json")]
    assert len({record["id"] for record in records} - {"mine"}) == 2
    assert done.stderr.count("WANDB_RUN_ID, WANDB_RESUME ignored") == 1


@pytest.mark.slow
def test_a_job_of_wandbs_agent_is_the_run_that_the_agent_expects(tmp_path: Path):
    """The agent makes the run and tells the job its id, its sweep and the file with its parameters."""
    parameters = tmp_path / "wandb/sweep-s1/config-agent-run-1.yaml"
    parameters.parent.mkdir(parents=True)
    parameters.write_text("wandb_version: 1\noptimizer.lr:\n  value: 0.01\n")
    with StandIn() as server:
        agent = {
            "WANDB_RUN_ID": "agent-run-1", "WANDB_SWEEP_ID": "s1", "WANDB_SWEEP_PARAM_PATH": str(parameters),
            "WANDB_DIR": str(tmp_path), "WANDB_PROJECT": "receipts",
        }  # fmt: skip
        done = run("train", BAD, "optimizer.lr=0.01", cwd=tmp_path, **(server.env() | agent))
        assert done.returncode == 2, done.stderr
        [stored] = server.runs.values()
        assert not server.faults
    assert stored.id == "agent-run-1" and stored.project == "receipts" and stored.fields["sweep"] == "s1"
    assert stored.config["optimizer"]["lr"] == 0.01 and stored.config["optimizer.lr"] == 0.01
    folder = run_folder(tmp_path)
    record = json.loads((folder / "wandb_run.json").read_text())
    assert record["id"] == "agent-run-1" and record["state"] == "uploaded"
    assert LocalRun(folder / record["folder"]).id == "agent-run-1"


def test_a_resumed_training_stays_in_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """``resume=`` on the command line beats WANDB_RUN_ID in the environment."""
    monkeypatch.chdir(tmp_path)
    with tracked_run(job_for(folder=tmp_path / "runs/x/first"), "training") as tracking:
        assert tracking is not None
        stopped = tracking.run.id
    monkeypatch.setenv("WANDB_RUN_ID", "another")
    resume = f"resume={tmp_path}/runs/x/first/checkpoints/last.ckpt"
    for more, expected in ((resume, stopped), ("resume=null", "another")):
        with tracked_run(job_for(more, folder=tmp_path / f"runs/x/{expected}"), "training") as tracking:
            assert tracking is not None and tracking.run.id == expected
