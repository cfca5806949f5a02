"""A job as its record shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
        varied: settings that a sweep varies, with their values in this job as text.
        sweep: name of the sweep, None outside one.
        number: of the job in the sweep.
    """

    name: str
    folder: Path
    config: Mapping[str, Any]
    logger: LoggerSettings
    overrides: Sequence[str] = ()
    varied: Mapping[str, str] = field(default_factory=dict)
    sweep: str | None = None
    number: int | None = None

    def sweep_facts(self) -> dict[str, Any]:
        """The job's place in its sweep, as :func:`ocr.sweeps.ranking.read_jobs` reads it; empty outside one."""
        if self.sweep is None:
            return {}
        callbacks = self.config.get("callbacks") or {}
        maximize = (callbacks.get("checkpoint") or {}).get("mode", "max") == "max"
        facts = {"name": self.sweep, "number": self.number, "varied": dict(self.varied),
                 "metric": self.config.get("optimized_metric"), "maximize": maximize}  # fmt: skip
        return {"sweep": facts, "seed": self.config.get("seed")}

    @cached_property
    def redactor(self) -> Redactor:
        """Knows the secrets of the environment and of the config."""
        return redactor_for(self.config)

    @cached_property
    def config_hash(self) -> str:
        """See :func:`ocr.tracking.record.config_hash`."""
        return config_hash(self.config)
