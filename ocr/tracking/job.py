"""A job as its record shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ocr.tracking.record import config_hash
from ocr.tracking.schema import LoggerSettings
from ocr.tracking.secrets import Redactor, redactor_for


@dataclass(frozen=True)
class Job:
    """Name, folder, settings and command line of a job.

    Attributes:
        name: of the experiment.
        folder: of the run.
        config: the composed config, resolved, plain types.
        logger: its logger settings.
        overrides: of the command line.
        varied: those of them that a sweep varies.
        sweep: name of the sweep, None outside one.
        number: of the job in the sweep.
    """

    name: str
    folder: Path
    config: Mapping[str, Any]
    logger: LoggerSettings
    overrides: Sequence[str] = ()
    varied: Sequence[str] = ()
    sweep: str | None = None
    number: int | None = None

    @cached_property
    def redactor(self) -> Redactor:
        """Knows the secrets of the environment and of the config."""
        return redactor_for(self.config)

    @cached_property
    def config_hash(self) -> str:
        """See :func:`ocr.tracking.record.config_hash`."""
        return config_hash(self.config)
