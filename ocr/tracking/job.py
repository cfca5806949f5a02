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


def is_maximized(config: Mapping[str, Any], metric: str) -> bool:
    """Whether more of a metric is better: as the checkpoint's callback of a training says; else all but losses."""
    checkpoint = (config.get("callbacks") or {}).get("checkpoint") or {}
    if checkpoint.get("monitor") == metric:
        return bool(checkpoint.get("mode", "max") == "max")
    return "loss" not in metric


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
        number: of the job in the sweep, or of its trial.
        seeds: trainings that the trial has.
    """

    name: str
    folder: Path
    config: Mapping[str, Any]
    logger: LoggerSettings
    overrides: Sequence[str] = ()
    varied: Mapping[str, str] = field(default_factory=dict)
    sweep: str | None = None
    number: int | None = None
    seeds: int = 1

    def sweep_record(self) -> dict[str, Any]:
        """The job's place in its sweep, as :func:`ocr.sweeps.ranking.read_jobs` reads it; empty outside one."""
        if self.sweep is None:
            return {}
        metric = self.config.get("optimized_metric")
        sweep = {"name": self.sweep, "number": self.number, "seeds": self.seeds, "varied": dict(self.varied),
                 "metric": metric, "maximize": is_maximized(self.config, str(metric))}  # fmt: skip
        return {"sweep": sweep, "seed": self.config.get("seed")}

    @cached_property
    def redactor(self) -> Redactor:
        """Knows the secrets of the environment and of the config."""
        return redactor_for(self.config)

    @cached_property
    def config_hash(self) -> str:
        """Hex digest of the settings in :attr:`config`."""
        return config_hash(self.config)
