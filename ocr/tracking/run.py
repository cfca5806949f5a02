"""The W&B run of a job, from its first line to its last."""

from __future__ import annotations

import logging
import math
import netrc
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import wandb
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import WandbLogger
from omegaconf import DictConfig

from ocr.errors import UserError, first_line
from ocr.tracking.naming import finished_name, generate_run_name
from ocr.tracking.record import environment, plain_config

log = logging.getLogger(__name__)


@contextmanager
def tracked_run(config: DictConfig, job_type: str) -> Iterator[WandbLogger | None]:
    """A W&B run around a job: started from the config, finished whatever ends the job.

    Args:
        config: the composed config; ``config.logger`` has the settings.
        job_type: used when the config names none.

    Yields:
        A Lightning logger, or None when W&B is switched off or on ranks above 0.
    """
    if rank_zero_only.rank != 0 or not config.logger.wandb.enabled:
        yield None
        return
    run = _start(config, job_type)
    exit_code = 1
    try:
        yield WandbLogger(experiment=run)
        exit_code = 0
    finally:
        folder = Path(run.dir).parent if run.settings.mode == "offline" else None
        run.finish(exit_code=exit_code)
        wandb.teardown(exit_code=exit_code)  # finish() may return before the log is on disk
        if folder is not None:
            log.warning("W&B: recorded offline; to upload: wandb sync %s", os.path.relpath(folder))


def _start(config: DictConfig, job_type: str) -> wandb.Run:
    logger = config.logger
    mode, reason = _mode(config)
    if reason:
        log.warning("W&B: %s; recording offline", reason)
    save_dir = Path(logger.save_dir)
    save_dir.mkdir(parents=True, exist_ok=True)
    arguments: dict[str, Any] = dict(
        project=str(logger.project_name),
        entity=logger.entity or None,
        name=generate_run_name(config),
        config=plain_config(config) | environment(),
        tags=[str(tag) for tag in logger.tags],
        group=logger.group,
        job_type=logger.job_type or job_type,
        notes=logger.notes,
        dir=str(save_dir),
        reinit="finish_previous",
        save_code=False,
        settings=wandb.Settings(
            console="off",
            init_timeout=float(logger.init_timeout),
            x_disable_meta=True,  # the command line may hold secrets; the config has what matters of it
            x_save_requirements=False,
            x_transaction_log_flush_interval=1,  # a kill loses a second, not fifteen
            silent=True,
        ),
    )
    try:
        run = wandb.init(mode=mode, **arguments)
    except (wandb.errors.AuthenticationError, wandb.errors.UsageError) as error:
        raise UserError(f"W&B: {error} (logger.offline=true records without the server)") from error
    except wandb.errors.CommError as error:
        if mode != "online":
            raise
        log.warning("W&B: no answer from the server (%s); recording offline", first_line(error))
        run = wandb.init(mode="offline", **arguments)
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return run


def _mode(config: DictConfig) -> tuple[str, str | None]:
    """W&B's mode, and why it is offline when nobody asked for that."""
    if config.logger.offline:
        return "offline", None
    wanted = os.environ.get("WANDB_MODE", "").lower()
    if wanted in ("offline", "disabled", "dryrun"):
        return ("offline" if wanted == "dryrun" else wanted), None
    if not has_key():
        return "offline", "no WANDB_API_KEY in the environment, .env.local or .env"
    return "online", None


def has_key() -> bool:
    """Whether W&B would find an API key, in the environment or where ``wandb login`` puts it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(wandb.Settings().base_url).hostname or ""
    path = os.environ.get("NETRC") or os.path.expanduser("~/.netrc")
    try:
        return netrc.netrc(path).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def record_facts(facts: Mapping[str, Any]) -> None:
    """Add to the config of the run in progress, if there is one."""
    if wandb.run is not None:
        wandb.run.config.update(dict(facts), allow_val_change=True)


def finalize_run(
    metrics: Mapping[str, float],
    metric_label: str = "hmean",
    metric_keys: tuple[str, ...] = ("test/hmean", "val/hmean"),
) -> None:
    """Write the summary and put the score in the name of the run in progress; without a run nothing happens.

    Args:
        metrics: names to values; what is not finite is left out and named in ``summary["left_out"]``.
        metric_label: stands before the score in the name.
        metric_keys: the first of these among the finite metrics is the score.
    """
    run = wandb.run
    if run is None:
        return
    finite, left_out = {}, []
    for key, value in metrics.items():
        number = _to_float(value)
        if number is not None and math.isfinite(number):
            finite[key] = number
        else:
            left_out.append(key)
    for key, number in finite.items():
        run.summary[key] = number
    if left_out:
        run.summary["left_out"] = sorted(left_out)
        log.warning("W&B: not finite and left out of the summary: %s", ", ".join(sorted(left_out)))
    score = next((finite[key] for key in metric_keys if key in finite), None)
    run.name = finished_name(run.name, metric_label, score)
    run.summary["final_run_name"] = run.name


def _to_float(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
