"""A damaged record or list of artifacts is named, and everything else goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ocr.tracking.run import tracked_run
from ocr.tracking.start import read_record, resumed_arguments
from ocr.tracking.tools.local_runs import find_runs
from ocr.tracking.tools.sync import sync_run
from tests.composing import job_for
from tests.disks import fill, small_disk
from tests.tiny import run

DAMAGED = {"empty": b"", "cut": b'{\n "id": "a",\n "proj', "zeros": bytes(600), "of another kind": b"[]\n"}


def facts(name: str, state: str) -> str:
    record = {"id": name, "project": "p", "entity": None, "group": "g", "mode": "offline", "state": state, "pid": None,
              "folder": f"wandb/offline-run-20260101_000000-{name}"}  # fmt: skip
    return json.dumps(record)


def recorded(folder: Path, name: str, state: str) -> Path:
    """A run folder as a run leaves it, with its record in both places."""
    run_folder = folder / "runs/x" / name
    place = run_folder / f"wandb/offline-run-20260101_000000-{name}"
    (place / "staged").mkdir(parents=True)
    (place / f"run-{name}.wandb").write_bytes(b"w" * 1000)
    for target in (run_folder, place):
        (target / "wandb_run.json").write_text(facts(name, state))
    return run_folder


@pytest.mark.slow
@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_sync_and_cleaning_go_on_past_a_damaged_record(content: bytes, tmp_path: Path):
    states = {"a": "offline", "b": "uploaded", "c": "offline"}
    damaged, sent, waiting = (recorded(tmp_path, name, state) for name, state in states.items())
    broken = next(damaged.glob("wandb/*/wandb_run.json"))
    for path in (damaged / "wandb_run.json", broken):
        path.write_bytes(content)
    done = run("sync", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert [line.rsplit("-", 1)[1] for line in done.stdout.splitlines()] == ["a: would be sent", "c: would be sent"]
    assert f"{broken} is damaged" in done.stderr and str(waiting) not in done.stderr
    done = run("clean_runs", "--yes", cwd=tmp_path)
    assert done.returncode == 0 and str(broken) in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert broken.exists() and not list(sent.glob("wandb/*"))


def test_a_record_is_read_from_its_copy(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    folder = recorded(tmp_path, "a", "uploaded")
    broken = next(folder.glob("wandb/*/wandb_run.json"))
    broken.write_bytes(b"")
    [found] = find_runs([tmp_path / "runs"])
    assert found.synced and found.record["project"] == "p"
    assert [record.getMessage().split(" is damaged")[0] for record in caplog.records] == [str(broken)]
    (folder / "wandb_run.json").write_text(facts("of another run", "uploaded"))
    [found] = find_runs([tmp_path / "runs"])
    assert not found.synced and found.record == {}


@pytest.mark.parametrize("both", [False, True])
def test_a_resume_goes_on_past_a_damaged_record(both: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    folder = recorded(tmp_path, "a", "offline")
    (folder / "wandb_run.json").write_bytes(b"")
    if both:
        next(folder.glob("wandb/*/wandb_run.json")).write_bytes(b"{")
    resume = f"resume='{folder / 'checkpoints/last.ckpt'}'"
    arguments = resumed_arguments(job_for("logger.project_name=p", resume, folder=tmp_path), "offline")
    assert arguments == ({} if both else {"id": "a", "resume": "allow", "group": "g"})
    assert f"{folder / 'wandb_run.json'} is damaged" in caplog.text and len(caplog.records) == 1 + both


def test_a_damaged_list_of_artifacts_is_no_proof_that_they_arrived(tmp_path: Path):
    folder = recorded(tmp_path, "a", "offline")
    place = next(folder.glob("wandb/*"))
    (place / "staged/artifacts.json").write_bytes(b"[{")
    (place / "run-a.wandb.synced").touch()
    [found] = find_runs([tmp_path / "runs"])
    assert not found.synced, "or its only copy would be deleted"
    [problem] = sync_run(found, seconds=1, silence=1).problems
    assert f"{place}/staged/artifacts.json is damaged" in problem and "\n" not in problem


def test_a_record_that_is_lost_in_mid_run_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "run/wandb_run.json"
    with tracked_run(job_for(folder=tmp_path / "run"), "training"):
        before = json.loads(path.read_text())
        path.write_bytes(b"")
    after = json.loads(path.read_text())
    assert after == before | {"state": "offline", "ended": "finished", "exit_code": 0}


def test_an_end_is_recorded_where_no_byte_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with small_disk(tmp_path / "disk", 5) as disk:
        with pytest.raises(KeyError), tracked_run(job_for(folder=disk / "run"), "training"):
            fill(disk)
            raise KeyError("a bug")
        assert os.statvfs(disk).f_bavail == 0
        for path in (disk / "run/wandb_run.json", *disk.glob("run/wandb/*run-*/wandb_run.json")):
            assert read_record(path)["exit_code"] == 1
