"""Arguments of ``wandb.init``: mode, group, tags, the run to go on in, and the client's settings."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import wandb

from ocr.errors import UserError, first_line
from ocr.tracking.credentials import key_fault, stored_key
from ocr.tracking.ending import TAGS
from ocr.tracking.job import Job
from ocr.tracking.record import relative
from ocr.tracking.schema import LoggerSettings
from ocr.tracking.secrets import Redactor

log = logging.getLogger(__name__)

RECORD = "wandb_run.json"  # which W&B run a folder belongs to, and what became of it
REQUIRED_KEYS = {"id", "project", "entity", "group", "mode", "folder", "state"}
MAX_TAG_LENGTH = 64
Mode = Literal["online", "offline", "shared"]
SINGLE_RUN_VARIABLES = ("WANDB_RUN_ID", "WANDB_RESUME", "WANDB_RESUME_FROM", "WANDB_FORK_FROM")


def clear_run_variables() -> list[str]:
    """Remove the variables that name one W&B run from the environment, and return the names of those that were set."""
    return [name for name in SINGLE_RUN_VARIABLES if os.environ.pop(name, None)]


def wandb_mode(settings: LoggerSettings) -> tuple[Mode, str | None]:
    """W&B's mode, and why it is offline when nobody asked for that.

    Raises:
        UserError: the key is malformed.
    """
    mode = os.environ.get("WANDB_MODE", "").lower()
    if settings.offline or (settings.offline is None and mode in ("offline", "dryrun")):
        return "offline", None
    key = stored_key()
    if not key:
        return "offline", "no WANDB_API_KEY in the environment, .env.local or .env"
    if fault := key_fault(key):
        raise UserError(f"WANDB_API_KEY is malformed: {fault} (copy it again; logger.offline=true records without it)")
    return "shared" if mode == "shared" else "online", None


def group_of(job: Job, origin: Mapping[str, Any]) -> str:
    """One group for a sweep; else one for a training with the tests of its checkpoints."""
    if origin.get("group"):
        return str(origin["group"])
    return f"{job.name}_{job.sweep or job.folder.name}"[:128]


def tags_of(job: Job) -> list[str]:
    """Tags from the config and the environment; in a sweep also the job's number and what varies."""
    tags = [*job.logger.tags, *os.environ.get("WANDB_TAGS", "").split(",")]
    if job.sweep:
        number = [] if job.number is None else [f"job-{job.number}"]  # a ranking has none
        tags += ["sweep", *number, *(f"{key}={value}" for key, value in job.varied.items())]
    clean = [job.redactor.text(tag.strip())[:MAX_TAG_LENGTH] for tag in tags]
    return list(dict.fromkeys(tag for tag in clean if tag and tag not in TAGS))


def runner_of(job_type: str) -> str:
    """The runner of a job type, in ``runners/``."""
    return {"training": "train", "testing": "test", "tuning": "tune"}.get(job_type, job_type)


def resumed_arguments(job: Job, mode: str) -> dict[str, Any]:
    """Arguments of ``wandb.init`` that continue the W&B run of a training that is resumed."""
    checkpoint, settings = job.config.get("resume"), job.logger
    if not settings.resume:
        return {}
    # a folder that has a record already: a job of a sweep that was killed, before its first checkpoint or after it
    folder = Path(checkpoint).expanduser().parent.parent if isinstance(checkpoint, str) else job.folder
    earlier = read_record(folder / RECORD, *sorted(folder.glob(f"wandb/*run-*/{RECORD}")))
    if not earlier or (not job.sweep and folder == job.folder and earlier.get("ended") == "finished"):
        return {}
    if earlier["project"] != settings.project_name or (settings.entity and earlier["entity"] != settings.entity):
        return {}
    synced = any((folder / earlier["folder"]).glob("*.wandb.synced"))
    if mode == "online" and earlier["mode"] == "offline" and not synced:
        log.warning("W&B: the stopped run is not synced yet, so this one is recorded as a run of its own")
        return {}
    return {"id": earlier["id"], "resume": "allow", "group": earlier["group"]}


def read_record(*copies: Path) -> dict[str, Any]:
    """Content of ``wandb_run.json`` from the first sound copy, or nothing; a warning names each damaged one before."""
    for path in copies:
        if not path.is_file():
            continue
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            record = first_line(error)
        if isinstance(record, dict) and record.keys() >= REQUIRED_KEYS:
            return record
        log.warning("%s is damaged and not heeded (%s)", path, record if isinstance(record, str) else "no record")
    return {}


def discreet_settings(runner: str, **more: Any) -> wandb.Settings:
    """Settings of a client that neither prints nor records output, code, command line, git remote or packages.

    Passed as arguments: W&B reads the environment only once per process.
    """
    return wandb.Settings(
        console="off",
        silent=True,
        save_code=False,
        disable_git=True,  # the remote may hold a name; the commit is in the config
        program=f"runners/{runner}.py",
        finish_timeout_raises=True,
        x_disable_meta=True,  # the command line may hold secrets; the config has what matters of it
        x_save_requirements=False,
        **more,
    )


def client_settings(settings: LoggerSettings, runner: str) -> wandb.Settings:
    """Settings of the client of a job."""
    hidden = settings.private or not settings.hostname
    return discreet_settings(
        runner,
        host="-" if hidden else socket.gethostname(),
        init_timeout=settings.init_timeout,
        finish_timeout=settings.finish_timeout / 2,  # the other half is for artifacts
        x_disable_stats=settings.system_metrics_interval == 0,
        x_stats_sampling_interval=max(settings.system_metrics_interval, 0.1),
        x_file_stream_transmit_interval=settings.transmit_interval,
        x_transaction_log_flush_interval=1,  # a kill loses a second, not fifteen
    )


def init(mode: Mode, arguments: dict[str, Any], redactor: Redactor, timeout: float) -> tuple[wandb.Run, Mode]:
    """``wandb.init``; offline when no server answers.

    Returns:
        The run, and the mode that it has.

    Raises:
        UserError: the server answers, and refuses.
    """
    wandb_folder = Path(arguments["dir"], "wandb")
    before = set(wandb_folder.glob("run-*"))
    try:
        return wandb.init(mode=mode, **arguments), mode
    except (wandb.errors.CommError, wandb.errors.UsageError) as error:
        message = redactor.text(first_line(error))
        for folder in set(wandb_folder.glob("run-*")) - before:
            # of the start that failed: a sync would send an empty run. The server may have made the run all the same:
            # with its id, a later sync fills it
            arguments = {"id": run_id_of(folder), **arguments}
            shutil.rmtree(folder, ignore_errors=True)
        if mode != "online" or not message.startswith("Timed out"):
            raise UserError(_refused(message, arguments)) from error
    wandb.teardown()  # the client still tries, and holds the id
    run = wandb.init(mode="offline", **arguments)
    log.warning("W&B: no answer within %g s (%s); recording offline; for later: wandb sync %s",
                timeout, message, relative(Path(run.dir).parent))  # fmt: skip
    return run, "offline"


def run_id_of(folder: Path) -> str:
    """The id of the run that W&B's folder ``[offline-]run-<date>_<time>-<id>`` holds; an id may hold dashes."""
    return folder.name.removeprefix("offline-").split("-", 2)[-1]


def _refused(message: str, arguments: Mapping[str, Any]) -> str:
    """The server's words with the likely fix."""
    lower = message.lower()
    if "permission" in lower or "not found" in lower or "forbidden" in lower:
        target = f"{arguments['entity'] or '<your default entity>'}/{arguments['project']}"
        fix = f"check the right to write to {target} (WANDB_ENTITY, WANDB_PROJECT)"
    else:
        fix = "check WANDB_API_KEY, or log in again with: wandb login --relogin"
    return f"W&B refused the run: {message}; {fix}; logger.offline=true records without the server"
