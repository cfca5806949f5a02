"""The W&B run of a job, from its first line to its last."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import wandb
from lightning.pytorch.loggers import WandbLogger

from ocr.errors import DiskFull, first_line, user_error
from ocr.tracking.artifacts import Artifacts
from ocr.tracking.ending import TAGS, Ending, abandoned, ending_of, signals_raise
from ocr.tracking.job import Job
from ocr.tracking.naming import generate_run_name
from ocr.tracking.record import command_line, environment, git_commit, relative
from ocr.tracking.start import (
    RECORD,
    clear_run_variables,
    client_settings,
    group_of,
    init,
    resumed_arguments,
    runner_of,
    tags_of,
    wandb_mode,
)
from ocr.tracking.summary import define_metrics, name_unfinished, settle_summary
from ocr.utils.config import plain_config
from ocr.utils.distributed import this_rank
from ocr.utils.files import write_atomic

log = logging.getLogger(__name__)


@dataclass
class Tracking:
    """The W&B run of a job in progress.

    Attributes:
        run: W&B's own object.
        logger: for Lightning's Trainer.
        job: what is recorded.
        artifacts: checkpoints and data sets.
        origin: what a checkpoint says about the run that made it; plain types.
        noted: what ``wandb_run.json`` says so far.
        pruned: why the sweep has stopped the job, one line; None for a job that went to its end.
    """

    run: wandb.Run
    logger: WandbLogger
    job: Job
    artifacts: Artifacts
    origin: dict[str, Any]
    noted: dict[str, Any]
    pruned: str | None = None
    _at_end: list[Callable[[], None]] = field(default_factory=list)
    _closing: threading.Lock = field(default_factory=threading.Lock)  # taken once, by whoever closes the run

    def record(self, values: Mapping[str, Any]) -> None:
        """Add to the run's config."""
        self.run.config.update(self.job.redactor.plain(plain_config(dict(values))), allow_val_change=True)

    def at_end(self, action: Callable[[], None]) -> None:
        """Do this before the run is finished, however the job ends."""
        self._at_end.append(action)

    def close(self, ending: Ending, full: bool = False) -> bool:
        """Finish the run, unless that was done or is under way; whether it was done here.

        ``full``: the job has ended because of a full disk, and says so itself.
        """
        if not self._closing.acquire(blocking=False):
            return False
        _close(self, ending, full)
        return True


@contextlib.contextmanager
def tracked_run(job: Job, job_type: str, origin: Mapping[str, Any] | None = None) -> Iterator[Tracking | None]:
    """A W&B run around a job: started from its settings, finished whatever ends the job.

    Args:
        job: what is recorded.
        job_type: ``training``, ``testing`` or ``tuning``; used when the config names none.
        origin: :attr:`Tracking.origin` of the run whose checkpoint this job starts from.

    Yields:
        What the job may add, or None when W&B is switched off or on ranks above 0.

    Raises:
        UserError: the key is malformed, or the server refuses it.
    """
    with signals_raise():
        if this_rank() != 0 or not job.logger.wandb.enabled:
            yield None
            return
        tracking = _start(job, job_type, origin or {})
        error: BaseException | None = None
        try:
            yield tracking
        except BaseException as caught:
            error = caught
            raise
        finally:
            ending = ending_of(error, job.folder)
            if error is None and tracking.pruned:
                ending = Ending(0, "pruned", tracking.pruned)
            tracking.close(ending, full=isinstance(user_error(error, job.folder), DiskFull))


def _start(job: Job, job_type: str, origin: Mapping[str, Any]) -> Tracking:
    settings, redactor = job.logger, job.redactor
    if job.sweep and (named := clear_run_variables()):
        log.warning("W&B: %s ignored, as every job of a sweep is a run of its own", ", ".join(named))
    mode, reason = wandb_mode(settings)
    if reason:
        log.warning("W&B: %s; recording offline", reason)
    save_dir = Path(settings.save_dir)
    save_dir.mkdir(parents=True, exist_ok=True)
    group = redactor.text(settings.group or group_of(job, origin))
    model = _model(job.config.get("model") or origin.get("model"))
    arguments: dict[str, Any] = dict(
        project=settings.project_name,
        entity=settings.entity,
        # cleaned before its parts are cut and joined, and once more as a name
        name=redactor.text(generate_run_name(redactor.plain({**job.config, "model": model}))),
        config=redactor.plain(_recorded(job, job_type)),
        tags=tags_of(job),
        group=group,
        job_type=redactor.text(settings.job_type or job_type),
        notes=redactor.text(settings.notes) if settings.notes else None,
        dir=relative(save_dir),
        reinit="finish_previous",
        settings=client_settings(settings, runner_of(job_type)),
    )
    arguments |= resumed_arguments(job, mode)
    run, mode = init(mode, arguments, redactor, settings.init_timeout)
    define_metrics(run)
    if not run.offline:
        log.info("W&B: recording at %s", run.url)
    run_dir = Path(run.dir).parent
    identity = {"id": run.id, "project": run.project or settings.project_name, "entity": run.entity or settings.entity,
            "group": group, "collection": f"model-{run.id}", "config_hash": job.config_hash,
            "git_commit": git_commit(), "model": model}  # fmt: skip
    record = {"mode": mode, "folder": os.path.relpath(run_dir, job.folder), "state": "running", "pid": os.getpid(),
              "url": None if run.offline else run.url}  # fmt: skip
    noted = identity | record
    _write_record(job.folder, run_dir, noted)
    _link_latest(run_dir)
    artifacts = Artifacts(run, run_dir, redactor, settings.artifacts.keep)
    return Tracking(run, WandbLogger(experiment=run), job, artifacts, redactor.plain(identity), noted)


def _model(model: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The part of a model's config that a run's name shows; a test has it from its checkpoint."""
    if not model:
        return None
    return {"architecture": model["architecture"], "backbone": {"name": model["backbone"]["name"]}}


def _recorded(job: Job, job_type: str) -> dict[str, Any]:
    """The run's config: that of the job, and what it was started with."""
    hostname = job.logger.hostname and not job.logger.private
    overrides = job.redactor.plain(list(job.overrides))  # before the shell's quotes are around them
    recorded = {**job.config, **environment(hostname), "command": command_line(runner_of(job_type), overrides),
                "config_hash": job.config_hash}  # fmt: skip
    if job.sweep:
        recorded["sweep"] = {"name": job.sweep, "job": job.number, "overrides": overrides}
    return recorded


def _link_latest(run_dir: Path) -> None:
    """``wandb sync wandb/latest-run`` works from where the job was started, wherever its folder lies."""
    link = Path("wandb", "latest-run")
    if link.is_symlink() or not link.exists():
        try:
            link.parent.mkdir(exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(os.path.relpath(run_dir, link.parent))
        except OSError as error:  # a folder that cannot be written, a system without links: a convenience only
            log.debug("no wandb/latest-run: %s", error)


def _write_record(folder: Path, run_dir: Path, record: Mapping[str, Any]) -> None:
    """Write the record into the run folder, for a resume, and into W&B's, for a sync: either may be moved."""
    content = json.dumps(record, indent=1) + "\n"
    for target in (folder, run_dir):
        try:
            write_atomic(target / RECORD, content)
        except DiskFull as error:
            if not (target / RECORD).is_file():
                log.warning("W&B: %s", error)
                continue
            with (target / RECORD).open("r+b", buffering=0) as file:  # its own disk block has room for the ending
                file.write(content.encode().ljust((target / RECORD).stat().st_size))


def _close(tracking: Tracking, ending: Ending, full: bool) -> None:
    """Finish the run, and say where it is."""
    run, settings, redactor = tracking.run, tracking.job.logger, tracking.job.redactor
    run_dir, offline, url = Path(run.dir).parent, run.offline, run.url
    complete = False
    unsent: list[str] | None = None  # artifacts; None where nobody knows

    def write_ending() -> None:
        settle_summary(run)
        name_unfinished(run)
        run.summary["ended/reason"] = redactor.text(ending.reason)
        run.summary["ended/exit_code"] = ending.exit_code
        run.tags = (*[t for t in run.tags or () if t not in TAGS], ending.tag)

    def close_artifacts() -> None:
        nonlocal unsent
        unsent = tracking.artifacts.close(settings.finish_timeout / 2)

    with _ctrl_c_interrupts():
        try:
            for action in [*tracking._at_end, write_ending, close_artifacts]:
                try:
                    action()
                except Exception as error:  # a fault in recording neither hides the job's own nor leaves the run open
                    if _client_ended(error):
                        raise
                    fixable = user_error(error)
                    if not full or not isinstance(fixable, DiskFull):
                        log.warning("W&B: %s", redactor.text(first_line(fixable or error)), exc_info=fixable is None)
                    full = full or isinstance(fixable, DiskFull)
            run.finish(exit_code=ending.exit_code)
            complete = unsent == []
        except TimeoutError:
            log.warning("W&B: the server did not take everything within %g s", settings.finish_timeout)
        except KeyboardInterrupt:
            log.warning("W&B: not waiting for the upload")
        except Exception as error:  # the client closes its own logs on a full disk
            if _client_ended(error):
                log.warning("W&B: its own process was ended, too; what it had by then is on disk")
            elif isinstance(user_error(error), DiskFull):
                full = True
            else:
                raise
        finally:
            wandb.teardown(exit_code=ending.exit_code)  # finish() may return before the log is on disk
    if settings.private:
        for path in (run_dir / "logs").glob("*.log"):
            path.write_text(redactor.text(path.read_text("utf-8", "surrogateescape")), "utf-8", "surrogateescape")
    state = "offline" if offline else "uploaded" if complete else "incomplete"
    if state == "incomplete":
        abandoned.set()
    record = tracking.noted | {"state": state, "ended": ending.tag, "exit_code": ending.exit_code}
    _write_record(tracking.job.folder, run_dir, record)
    if offline:
        log.warning("W&B: recorded offline%s; to upload: wandb sync %s (make sync: all runs, artifacts checked)",
                    ", as far as the disk had room" if full else "", relative(run_dir))  # fmt: skip
    elif state == "incomplete":
        left = f" (make sync: also {', '.join(unsent)})" if unsent else ""
        log.warning("W&B: to upload the rest: wandb sync --include-online %s%s", relative(run_dir), left)
    else:
        log.info("W&B: uploaded to %s", url)


def _client_ended(error: Exception) -> bool:
    """Whether W&B's own process is gone: schedulers signal all processes of a job at once."""
    return isinstance(error, ConnectionError) or type(error).__name__ == "MailboxClosedError"


@contextlib.contextmanager
def _ctrl_c_interrupts() -> Iterator[None]:
    """Lightning leaves Ctrl-C ignored; here it ends the wait for the upload."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)  # None: not set from Python
