"""Lines and files that Hydra writes by itself, without secrets: it knows them before a job starts."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from ocr.tracking.secrets import Redactor, redactor_for
from ocr.utils.config import plain_config


def known_secrets() -> Redactor:
    """A redactor that knows the secrets of the environment and of the command line."""
    redactor = Redactor(os.environ)
    redactor.learn_overrides(sys.argv[1:])
    return redactor


class HydraFormatter(logging.Formatter):
    """Formatter of Hydra's log, which lists the overrides of each job of a sweep."""

    def format(self, record: logging.LogRecord) -> str:
        return known_secrets().text(super().format(record))


def clean_settings(path: Path, redactor: Redactor) -> None:
    """Rewrite a YAML file of settings that Hydra has written without secrets, if it has any."""
    node = OmegaConf.load(path)
    before = OmegaConf.to_container(node, resolve=False)
    after = redactor.settings(before)
    if after != before:
        OmegaConf.save(OmegaConf.create(after), path)


class HideOverrides(Callback):
    """Hydra prints the overrides of a job that failed."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if job_return.status is JobStatus.FAILED:
            job_return.overrides = redactor_for(plain_config(config)).plain(list(job_return.overrides or ()))
