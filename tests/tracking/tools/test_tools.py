"""The doctor, the cleaning of records and the dashboard, as a user starts them."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from ocr.tracking.tools import doctor
from ocr.tracking.tools.local_runs import find_runs
from tests.conftest import ROOT
from tests.standin import StandIn
from tests.tiny import run

pytestmark = pytest.mark.slow


def checks(stdout: str) -> dict[str, dict[str, str]]:
    """The JSON report, by check."""
    return {entry["check"]: entry for entry in json.loads(stdout)["checks"]}


def test_doctor_of_a_healthy_set_up(tmp_path: Path):
    with StandIn() as server:
        done = run("doctor", cwd=tmp_path, **server.env())
        assert done.returncode == 0 and "0 fault(s), 0 warning(s)" in done.stdout, done.stdout + done.stderr
        report = checks(run("doctor", "--json", cwd=tmp_path, **server.env()).stdout)
    assert not server.faults
    assert {entry["level"] for entry in report.values()} == {"ok"}
    wanted = {"env files", "WANDB_API_KEY", "logger config", "config serialises", "mode", "API key", "server", "entity",
              "project", "folder output", "unsynced runs", "versions", "GPU"}  # fmt: skip
    assert wanted <= set(report)
    assert server.env()["WANDB_API_KEY"] not in done.stdout


def test_doctor_of_a_broken_set_up(tmp_path: Path):
    (tmp_path / ".env").write_text("WANDB_API_KEY=' short-planted-key '\nWANDB_PROJEKT=x\n")
    (tmp_path / "file").write_text("")
    record = tmp_path / "runs/a/b/wandb/offline-run-20260101_000000-abc"
    record.mkdir(parents=True)
    (record / "run-abc.wandb").write_bytes(b":W&B")
    arguments = ["--json", "--timeout=2", "paths.output=file/runs", "+logger.tagz=[a]", "+broken=${nowhere}"]
    done = run("doctor", *arguments, cwd=tmp_path, WANDB_MODE="online", WANDB_BASE_URL="http://127.0.0.1:9")
    assert done.returncode == 1, done.stdout + done.stderr
    report = checks(done.stdout)
    assert report["API key"]["level"] == "fault" and "40+ characters" in report["API key"]["found"]
    assert report["WANDB_API_KEY"]["level"] == "warning" and ".env" in report["WANDB_API_KEY"]["found"]
    assert report["WANDB_PROJEKT"]["level"] == "warning"
    assert report["logger config"]["level"] == "fault" and "logger.tags" in report["logger config"]["found"]
    assert report["config serialises"]["level"] == "warning" and "broken" in report["config serialises"]["found"]
    assert report["server"]["level"] == "fault" and "127.0.0.1:9" in report["server"]["found"]
    assert report["folder output"]["level"] == "fault"
    assert report["unsynced runs"]["level"] == "warning" and "1 of 1" in report["unsynced runs"]["found"]
    assert all(entry["fix"] for entry in report.values() if entry["level"] != "ok")
    assert "short-planted-key" not in done.stdout + done.stderr


def test_doctor_tells_a_refused_key_and_a_foreign_entity(tmp_path: Path):
    with StandIn() as server:
        report = checks(run("doctor", "--json", cwd=tmp_path, **server.env("x" * 40)).stdout)
        assert report["API key"]["level"] == "fault"
        env = {**server.env(), "WANDB_ENTITY": "strangers"}
        report = checks(run("doctor", "--json", cwd=tmp_path, **env).stdout)
        assert report["entity"]["level"] == "fault" and "team" in report["entity"]["fix"]


def record(folder: Path, name: str, state: str, size: int = 1000) -> Path:
    """A W&B record as a finished run leaves it."""
    place = folder / f"runs/x/{name}/wandb/run-20260101_000000-{name}"
    (place / "staged").mkdir(parents=True)
    (place / f"run-{name}.wandb").write_bytes(b"w" * size)
    facts = {"id": name, "project": "p", "entity": None, "group": "g", "mode": "offline", "folder": ".", "state": state}
    (place / "wandb_run.json").write_text(json.dumps(facts | {"pid": os.getpid()}))
    return place


def test_doctor_warns_of_little_shared_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(doctor, "SHARED_MEMORY", tmp_path)
    [plenty] = doctor._shared_memory()
    assert plenty.level == "ok" and not plenty.fix
    monkeypatch.setattr(doctor, "MIN_SHARED_MB", 1e12)
    [little] = doctor._shared_memory()
    assert little.level == "warning" and "--shm-size" in little.fix and "data.num_workers=0" in little.fix


def test_cleaning_keeps_what_is_not_synced_and_asks(tmp_path: Path):
    sent, waiting, running = (
        record(tmp_path, n, s) for n, s in (("a", "uploaded"), ("b", "offline"), ("c", "running"))
    )
    checkpoint = tmp_path / "runs/x/a/checkpoints/best.ckpt"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"c" * 5000)
    os.link(checkpoint, sent / "staged/1_best.ckpt")
    [of_a] = [r for r in find_runs([tmp_path / "runs"]) if r.id == "a"]
    assert 1000 < of_a.freed() < 2000, "a link to a checkpoint frees nothing"

    command = [sys.executable, str(ROOT / "runners/clean_runs.py")]
    silent = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert silent.returncode == 1 and sent.exists() and "answer needed" in silent.stderr
    for answer, gone in (("n\n", False), ("y\n", True)):
        ours, theirs = pty.openpty()
        os.write(ours, answer.encode())
        asked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, stdin=theirs)
        assert "1 record(s), 0.0 MB" in asked.stdout and "Delete them?" in asked.stdout
        assert sent.exists() is not gone
    assert waiting.exists() and running.exists() and checkpoint.exists()
    assert "not synced" in asked.stdout and "running" in asked.stdout


def test_dashboard(tmp_path: Path):
    with StandIn() as server:
        dry = run("dashboard", "--dry-run", cwd=tmp_path)
        assert dry.returncode == 0 and "val/hmean" in dry.stdout, dry.stderr
        done = run("dashboard", cwd=tmp_path, **server.env())
        assert done.returncode == 0, done.stdout + done.stderr
        [view] = server.views
    text = json.dumps(view)
    for metric in ("val/hmean", "test/hmean", "best/val/hmean", "train/loss", "problematic_batch_0_images"):
        assert metric in text
    missing = run("dashboard", cwd=tmp_path)
    assert missing.returncode == 2 and "make doctor" in missing.stderr
