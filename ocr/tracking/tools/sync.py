"""Sending W&B runs that are only on disk, and asking the server whether all of them arrived."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import wandb
from wandb.sdk.artifacts.exceptions import WaitTimeoutError

from ocr.errors import UserError, first_line
from ocr.tracking.artifacts import STAGED, StagedArtifact, read_staged, write_staged
from ocr.tracking.credentials import server_url
from ocr.tracking.start import RECORD, discreet_settings
from ocr.tracking.tools.local_runs import LocalRun
from ocr.utils.files import copy_atomic, write_atomic

ASK_INTERVAL_SECONDS = 5  # for an answer of the server, and between two questions


@dataclass
class SyncReport:
    """Result of sending a run.

    Attributes:
        problems: why the server has not got all of it; empty on success.
        notes: what was done beyond ``wandb sync``.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def server_fault(seconds: float = ASK_INTERVAL_SECONDS) -> str | None:
    """Why the W&B server does not answer; None when it does, whatever it says."""
    try:
        urllib.request.urlopen(server_url(), timeout=seconds).close()  # noqa: S310  (the server of the settings)
    except urllib.error.HTTPError:
        return None
    except (OSError, http.client.HTTPException) as error:
        return str(getattr(error, "reason", None) or first_line(error))
    return None


class _Patience:
    """Time limit for a server that has stopped answering.

    Args:
        silence: seconds without an answer.
        seconds: in all.
    """

    def __init__(self, silence: float, seconds: float) -> None:
        self.silence, self.seconds = silence, seconds
        self._started = self._heard = time.monotonic()

    def over(self) -> str | None:
        """Ask the server; why there is no use in waiting longer, None while there is."""
        asked = time.monotonic()
        if server_fault() is None:
            self._heard = asked
        now = time.monotonic()
        if now - self._heard > self.silence:
            return f"the server has not answered for {now - self._heard:.0f} s"
        return f"it did not end within {self.seconds:g} s" if now - self._started > self.seconds else None


def sync_run(run: LocalRun, seconds: float, silence: float) -> SyncReport:
    """Send a run with ``wandb sync``, then ask the server for the run and each of its artifacts.

    ``wandb sync`` reports success even when an artifact was dropped, because its file has moved or it was logged while
    the server was away. What is missing is sent from the run's own folder.

    Args:
        run: not active.
        seconds: to wait at most.
        silence: seconds without an answer of the server after which it is given up.
    """
    report = SyncReport()
    try:
        staged = read_staged(run.folder)
    except UserError as error:
        report.problems.append(str(error))
        return report
    _find_files(run, staged, report)
    if report.problems:
        return report
    if run.partly_sent:
        report.notes.append("what had arrived before was sent again: wandb has no public way to send only the rest")
    patience = _Patience(silence, seconds)
    if problem := _wandb_sync(run.folder, patience):
        report.problems.append(problem)
        return report
    try:
        _verify(run, staged, report, patience)
    except Exception as error:  # the client raises many kinds for what the server does not have or say
        report.problems.append(f"the server could not confirm it: {first_line(error)}")
    write_staged(run.folder, staged) if staged else None
    if report.problems:
        for marker in run.folder.glob("*.wandb.synced"):
            marker.unlink()
    elif run.record:
        run.record["state"] = "uploaded"
        write_atomic(run.folder / RECORD, json.dumps(run.record, indent=1) + "\n")
    return report


def _wandb_sync(folder: Path, patience: _Patience) -> str | None:
    """Run ``wandb sync``; why it failed or was given up."""
    command = [sys.executable, "-m", "wandb", "sync", "--include-online", "--include-synced", str(folder)]
    clean = {**os.environ, "WANDB_PROGRAM": "runners/sync.py", "WANDB_MODE": "online"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=clean)
    try:
        while True:
            try:
                said, _ = process.communicate(timeout=ASK_INTERVAL_SECONDS)
            except subprocess.TimeoutExpired:
                if problem := patience.over():
                    return f"wandb sync was ended: {problem}"
            else:
                return f"wandb sync failed: {said.strip().splitlines()[-1:]}" if process.returncode else None
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def _find_files(run: LocalRun, staged: list[StagedArtifact], report: SyncReport) -> None:
    """Check that every file of every artifact is there, unchanged; take a lost one from the run's checkpoints."""
    folder = run.folder / STAGED
    for entry in staged:
        if entry.uploaded:
            continue
        for name, staged_name in entry.files.items():
            target = folder / staged_name
            spare = run.folder.parent.parent / "checkpoints" / name
            if not target.is_file() and spare.is_file():
                copy_atomic(spare, target)
            if not target.is_file():
                report.problems.append(f"the file {target} of the artifact {entry.collection} is lost")
        if not report.problems:
            logged_digest = entry.digest
            entry.build(folder)
            if logged_digest and entry.digest != logged_digest:
                report.problems.append(f"a file of the artifact {entry.collection} has changed since it was logged")


def _verify(run: LocalRun, staged: list[StagedArtifact], report: SyncReport, patience: _Patience) -> None:
    if not run.record:
        return  # a run of another program: nothing is known that could be asked for
    api = wandb.Api(timeout=30)
    entity = str(run.record.get("entity") or api.default_entity)
    path = f"{entity}/{run.record['project']}"
    remote = api.run(f"{path}/{run.id}")
    missing = [entry for entry in staged if not entry.uploaded and not _on_server(api, path, entry)]
    if missing:
        _send_artifacts(run, entity, missing, report, patience)
    for entry in staged:
        entry.uploaded = _on_server(api, path, entry)
        if not entry.uploaded:
            report.problems.append(f"the server has no artifact {entry.collection} with this content")
    if remote.state == "running":
        report.notes.append("the server still shows it as running")


def _send_artifacts(
    run: LocalRun, entity: str, missing: list[StagedArtifact], report: SyncReport, patience: _Patience
) -> None:
    before = set(run.folder.parent.glob("run-*"))
    try:
        with_run = wandb.init(
            entity=entity, project=run.record["project"], id=run.id, resume="must", mode="online",
            dir=str(run.folder.parent.parent), reinit="finish_previous",
            settings=discreet_settings(
                "sync", host="-", x_disable_stats=True, init_timeout=patience.silence, finish_timeout=patience.silence
            ),
        )  # fmt: skip
        try:
            for entry in missing:
                _wait_for(entry.log_to(with_run, run.folder / STAGED), patience)
                report.notes.append(f"{entry.collection}: sent from the run's folder")
        finally:
            with_run.finish(exit_code=run.record.get("exit_code") or 0)
    finally:
        for again in set(run.folder.parent.glob("run-*")) - before:  # else the next sync would find it
            shutil.rmtree(again, ignore_errors=True)


def _wait_for(artifact: wandb.Artifact, patience: _Patience) -> None:
    while True:
        try:
            artifact.wait(timeout=ASK_INTERVAL_SECONDS)
            return
        except WaitTimeoutError:
            if problem := patience.over():
                raise TimeoutError(problem) from None


def _on_server(api: wandb.Api, path: str, entry: StagedArtifact) -> bool:
    try:
        versions = list(api.artifacts(entry.type, f"{path}/{entry.collection}"))
    except ValueError as error:
        if "Unable to parse" in str(error):  # what the client says of a collection that does not exist
            return False
        raise
    return any(version.digest == entry.digest for version in versions)
