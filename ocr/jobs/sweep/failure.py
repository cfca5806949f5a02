"""The record of a job of a sweep that failed: ``failure.json``, and a W&B run where the job did not get as far."""

from __future__ import annotations

import contextlib
import json
import logging
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from ocr.errors import UserError, first_line
from ocr.jobs.command_line.hydra_job import invocation
from ocr.sweeps.ranking import FAILURE
from ocr.tracking.job import Job
from ocr.tracking.run import tracked_run
from ocr.tracking.schema import check_logger
from ocr.tracking.start import RECORD
from ocr.utils.config import plain_config
from ocr.utils.distributed import this_rank
from ocr.utils.files import write_atomic

log = logging.getLogger(__name__)


def record_failure(config: DictConfig, reason: str, error: BaseException) -> None:
    """Write ``failure.json``; where the job failed before its W&B run began, make one that says failed, too.

    Args:
        config: of the job, which may be what is wrong.
        reason: the error in one line, without secrets.
    """
    if this_rank() != 0:
        return
    plain = plain_config(config)
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        job = Job(str(plain.get("name")), folder, plain, check_logger(plain.get("logger") or {}), **invocation())
    except UserError as fault:  # the logger's own settings are wrong
        log.warning("W&B: the failed job is not recorded: %s", first_line(fault))
        return
    known = {"state": "failed", "reason": reason, "overrides": list(job.overrides), **job.sweep_record()}
    write_atomic(folder / FAILURE, json.dumps(job.redactor.plain(known), indent=1) + "\n")
    if job.logger.wandb.enabled and not (folder / RECORD).is_file():
        with contextlib.suppress(type(error)), tracked_run(job, "training"):
            raise error
