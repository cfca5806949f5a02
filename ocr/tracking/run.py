"""The W&B run of a job, from its first line to its last."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import WandbLogger
from omegaconf import DictConfig, OmegaConf

import wandb
from ocr.errors import UserError, first_line
from ocr.tracking.artifacts import Artifacts
from ocr.tracking.credentials import key_fault, stored_key
from ocr.tracking.ending import TAGS, Ending, ending_of, signals_raise
from ocr.tracking.naming import generate_run_name
from ocr.tracking.record import command_line, config_hash, environment, git_commit, plain_config, relative
from ocr.tracking.schema import LoggerConfig, check_logger
from ocr.tracking.secrets import Redactor, redactor_for
from ocr.tracking.summary import define_metrics, name_unfinished, settle_summary

log = logging.getLogger(__name__)

RECORD = "wandb_run.json"  # which W&B run a folder belongs to, and what became of it
LONGEST_TAG = 64


@dataclass
class Tracking:
    """What a job in progress may add to its W&B run.

    Attributes:
        run: W&B's own object.
        logger: for Lightning's Trainer.
        settings: the checked ``config.logger``.
        artifacts: checkpoints and data sets.
        redactor: hides secrets.
        origin: what a checkpoint says about the run that made it; plain types.
    """

    run: wandb.Run
    logger: WandbLogger
    settings: LoggerConfig
    artifacts: Artifacts
    redactor: Redactor
    origin: dict[str, Any]
    _at_end: list[Callable[[], None]] = field(default_factory=list)

    def record(self, facts: Mapping[str, Any]) -> None:
        """Add to the run's config."""
        self.run.config.update(self.redactor.plain(plain_config(dict(facts))), allow_val_change=True)

    def at_end(self, action: Callable[[], None]) -> None:
        """Do this before the run is finished, however the job ends."""
        self._at_end.append(action)


@dataclass(frozen=True)
class JobFacts:
    """What Hydra knows of a job.

    Attributes:
        overrides: of the command line.
        sweep: name of the sweep, None outside one.
        number: of the job in the sweep.
    """

    overrides: Sequence[str] = ()
    sweep: str | None = None
    number: int | None = None


def job_facts() -> JobFacts:
    """The facts of the job that Hydra runs; empty ones without Hydra."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if not HydraConfig.initialized():
        return JobFacts()
    hydra = HydraConfig.get()
    overrides = list(hydra.overrides.task)
    if hydra.mode != RunMode.MULTIRUN:
        return JobFacts(overrides)
    return JobFacts(overrides, Path(hydra.sweep.dir).name, int(hydra.job.num))


@contextlib.contextmanager
def tracked_run(
    config: DictConfig, job_type: str, origin: Mapping[str, Any] | None = None
) -> Iterator[Tracking | None]:
    """A W&B run around a job: started from the config, finished whatever ends the job.

    Args:
        config: the composed config; ``config.logger`` has the settings.
        job_type: used when the config names none.
        origin: :attr:`Tracking.origin` of the run whose checkpoint this job starts from.

    Yields:
        What the job may add, or None when W&B is switched off or on ranks above 0.

    Raises:
        UserError: a setting or the key is malformed, or the server refuses it.
    """
    settings = check_logger(plain_config(config.logger))
    with signals_raise():
        if rank_zero_only.rank != 0 or not settings.wandb.enabled:
            yield None
            return
        tracking = _start(config, settings, job_type, origin or {})
        error: BaseException | None = None
        try:
            yield tracking
        except BaseException as caught:
            error = caught
            raise
        finally:
            _close(tracking, ending_of(error), Path(config.paths.run_dir))


def _start(config: DictConfig, settings: LoggerConfig, job_type: str, origin: Mapping[str, Any]) -> Tracking:
    redactor = redactor_for(config)
    facts = job_facts()
    folder = Path(config.paths.run_dir)
    mode, reason = _mode(settings)
    if reason:
        log.warning("W&B: %s; recording offline", reason)
    save_dir = Path(settings.save_dir)
    save_dir.mkdir(parents=True, exist_ok=True)
    group = settings.group or _group(config, facts, origin)
    recorded: dict[str, Any] = plain_config(config) | environment(settings.hostname and not settings.private)
    recorded |= {"command": command_line(_runner(job_type), facts.overrides), "config_hash": config_hash(config)}
    if facts.sweep:
        recorded["sweep"] = {"name": facts.sweep, "job": facts.number, "overrides": list(facts.overrides)}
    arguments: dict[str, Any] = dict(
        project=settings.project_name,
        entity=settings.entity,
        name=redactor.text(generate_run_name(_with_model(config, origin))),
        config=redactor.plain(recorded),
        tags=_tags(settings, facts, redactor),
        group=group,
        job_type=settings.job_type or job_type,
        notes=redactor.text(settings.notes) if settings.notes else None,
        dir=relative(save_dir),
        reinit="finish_previous",
        settings=_client_settings(settings, _runner(job_type)),
    )
    arguments |= _resumed(config, settings, mode)
    run, mode = _init(mode, arguments, redactor, settings.init_timeout)
    define_metrics(run)
    if not run.offline:
        log.info("W&B: recording at %s", run.url)
    place = Path(run.dir).parent
    model = origin.get("model")
    if "model" in config:
        model = {"architecture": config.model.architecture, "backbone": {"name": config.model.backbone.name}}
    made = {"id": run.id, "project": run.project or settings.project_name, "entity": run.entity or settings.entity,
            "group": group, "collection": f"model-{run.id}", "config_hash": config_hash(config),
            "git_commit": git_commit(), "model": model}  # fmt: skip
    record = {"mode": mode, "folder": os.path.relpath(place, folder), "state": "running", "pid": os.getpid()}
    _write_record(folder, place, made | record)
    _link_latest(place)
    artifacts = Artifacts(run, place, redactor, settings.artifacts.keep)
    return Tracking(run, WandbLogger(experiment=run), settings, artifacts, redactor, redactor.plain(made))


def _with_model(config: DictConfig, origin: Mapping[str, Any]) -> DictConfig:
    """A test's config knows no model, but its checkpoint does."""
    if "model" in config or not origin.get("model"):
        return config
    return OmegaConf.create({**plain_config(config), "model": dict(origin["model"])})


def _link_latest(place: Path) -> None:
    """``wandb sync wandb/latest-run`` works from where the job was started, wherever its folder lies."""
    link = Path("wandb", "latest-run")
    if link.is_symlink() or not link.exists():
        try:
            link.parent.mkdir(exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(os.path.relpath(place, link.parent))
        except OSError as error:  # a folder that cannot be written, a system without links: a convenience only
            log.debug("no wandb/latest-run: %s", error)


def _client_settings(settings: LoggerConfig, runner: str) -> wandb.Settings:
    """Passed as arguments: W&B reads the environment only once a process."""
    hidden = settings.private or not settings.hostname
    return wandb.Settings(
        console="off",
        save_code=False,
        disable_git=True,  # the remote may hold a name; the commit is in the config
        program=f"runners/{runner}.py",
        host="-" if hidden else socket.gethostname(),
        init_timeout=settings.init_timeout,
        finish_timeout=settings.finish_timeout / 2,  # the other half is for artifacts
        finish_timeout_raises=True,
        silent=True,
        x_disable_meta=True,  # the command line may hold secrets; the config has what matters of it
        x_save_requirements=False,
        x_disable_stats=settings.system_metrics_interval == 0,
        x_stats_sampling_interval=max(settings.system_metrics_interval, 0.1),
        x_file_stream_transmit_interval=settings.transmit_interval,
        x_transaction_log_flush_interval=1,  # a kill loses a second, not fifteen
    )


def _init(mode: str, arguments: dict[str, Any], redactor: Redactor, timeout: float) -> tuple[wandb.Run, str]:
    try:
        return wandb.init(mode=mode, **arguments), mode
    except (wandb.errors.CommError, wandb.errors.UsageError) as error:
        said = redactor.text(first_line(error))
        if mode == "online" and said.startswith("Timed out"):
            log.warning("W&B: no answer within %g s (%s); recording offline", timeout, said)
            return wandb.init(mode="offline", **arguments), "offline"
        raise UserError(_refused(said, arguments)) from error


def _refused(said: str, arguments: Mapping[str, Any]) -> str:
    """The server's words with the likely fix."""
    lower = said.lower()
    if "permission" in lower or "not found" in lower or "forbidden" in lower:
        place = f"{arguments['entity'] or '<your default entity>'}/{arguments['project']}"
        fix = f"check the right to write to {place} (WANDB_ENTITY, WANDB_PROJECT)"
    else:
        fix = "check WANDB_API_KEY, or log in anew with: wandb login --relogin"
    return f"W&B refused the run: {said}; {fix}; logger.offline=true records without the server"


def _mode(settings: LoggerConfig) -> tuple[str, str | None]:
    """W&B's mode, and why it is offline when nobody asked for that.

    Raises:
        UserError: the key is malformed.
    """
    wanted = os.environ.get("WANDB_MODE", "").lower()
    if settings.offline or (settings.offline is None and wanted in ("offline", "dryrun")):
        return "offline", None
    key = stored_key()
    if not key:
        return "offline", "no WANDB_API_KEY in the environment, .env.local or .env"
    if fault := key_fault(key):
        raise UserError(f"WANDB_API_KEY is malformed: {fault} (copy it anew; logger.offline=true records without it)")
    return "shared" if wanted == "shared" else "online", None


def _group(config: DictConfig, facts: JobFacts, origin: Mapping[str, Any]) -> str:
    """One group for a sweep; else one for a training with the tests of its checkpoints."""
    if origin.get("group"):
        return str(origin["group"])
    folder = facts.sweep or Path(config.paths.run_dir).name
    return f"{config.name}_{folder}"[:128]


def _tags(settings: LoggerConfig, facts: JobFacts, redactor: Redactor) -> list[str]:
    tags = [*settings.tags, *os.environ.get("WANDB_TAGS", "").split(",")]
    if facts.sweep:
        tags += ["sweep", f"job-{facts.number}", *_varied(facts.overrides)]
    clean = [redactor.text(tag.strip())[:LONGEST_TAG] for tag in tags]
    return list(dict.fromkeys(tag for tag in clean if tag and tag not in TAGS))


def _varied(overrides: Sequence[str]) -> list[str]:
    """The overrides that a sweep varies, as far as the command line tells: those that have several values there."""
    several = {a.split("=", 1)[0] for a in sys.argv[1:] if "=" in a and _sweeps(a.split("=", 1)[1])}
    return [o for o in overrides if o.split("=", 1)[0] in several] or list(overrides)


def _sweeps(value: str) -> bool:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    try:
        return OverridesParser.create().parse_override(f"x={value}").is_sweep_override()
    except Exception:  # another word of the command line
        return False


def _runner(job_type: str) -> str:
    return {"training": "train", "testing": "test"}.get(job_type, job_type)


def _resumed(config: DictConfig, settings: LoggerConfig, mode: str) -> dict[str, Any]:
    """Arguments that go on in the W&B run of the training that is resumed."""
    checkpoint = config.get("resume")
    if not settings.resume or not isinstance(checkpoint, str):
        return {}
    path = Path(checkpoint).expanduser().parent.parent / RECORD
    if not path.is_file():
        return {}
    earlier = json.loads(path.read_text(encoding="utf-8"))
    if earlier["project"] != settings.project_name or (settings.entity and earlier["entity"] != settings.entity):
        return {}
    if mode == "online" and earlier["mode"] == "offline" and not _synced(path.parent / earlier["folder"]):
        log.warning("W&B: the stopped run is not synced yet, so this one is recorded as a run of its own")
        return {}
    return {"id": earlier["id"], "resume": "allow", "group": earlier["group"]}


def _synced(folder: Path) -> bool:
    return any(folder.glob("*.wandb.synced"))


def _write_record(folder: Path, place: Path, facts: Mapping[str, Any]) -> None:
    """In the run folder, for a resume, and in W&B's, for a sync: the two may lie apart and move."""
    for target in (folder, place):
        target.mkdir(parents=True, exist_ok=True)
        (target / RECORD).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _close(tracking: Tracking, ending: Ending, folder: Path) -> None:
    """Finish the run, and say where it is."""
    run, settings, redactor = tracking.run, tracking.settings, tracking.redactor
    place, offline = Path(run.dir).parent, run.offline
    url = None if offline else run.url
    signal_before = _let_interrupt()
    complete = False
    missing: list[str] = []

    def write_ending() -> None:
        settle_summary(run)
        name_unfinished(run)
        run.summary["ended/reason"] = redactor.text(ending.reason)
        run.summary["ended/exit_code"] = ending.exit_code
        run.tags = (*[t for t in run.tags or () if t not in TAGS], ending.tag)

    try:
        for action in [*tracking._at_end, write_ending]:
            try:
                action()
            except Exception as error:  # a fault in recording must neither hide the job's own nor leave the run open
                log.warning("W&B: %s", redactor.text(first_line(error)), exc_info=True)
        missing = tracking.artifacts.close(settings.finish_timeout / 2)
        run.finish(exit_code=ending.exit_code)
        complete = True
    except TimeoutError:
        log.warning("W&B: the server did not take everything within %g s", settings.finish_timeout)
    except KeyboardInterrupt:
        log.warning("W&B: not waiting for the upload")
    finally:
        wandb.teardown(exit_code=ending.exit_code)  # finish() may return before the log is on disk
        _restore(signal_before)
    if settings.private:
        for path in (place / "logs").glob("*.log"):
            redactor.clean_text(path)
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    state = "offline" if offline else "uploaded" if complete and not missing else "incomplete"
    _write_record(folder, place, record | {"state": state, "ended": ending.tag, "exit_code": ending.exit_code})
    if offline:
        log.warning("W&B: recorded offline; to upload: wandb sync %s (make sync: all runs, artifacts checked)",
                    relative(place))  # fmt: skip
    elif state == "incomplete":
        left = f" (make sync: also {', '.join(missing)})" if missing else ""
        log.warning("W&B: to upload the rest: wandb sync --include-online %s%s", relative(place), left)
    else:
        log.info("W&B: uploaded to %s", url)


def _let_interrupt() -> Any:
    """Ctrl-C ends the wait for the upload; Lightning leaves it ignored."""
    try:
        return signal.signal(signal.SIGINT, signal.default_int_handler)
    except ValueError:  # not the main thread
        return None


def _restore(handler: Any) -> None:
    if handler is not None:
        signal.signal(signal.SIGINT, handler)
