"""Settings of a sweep, ``configs/sweep``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from omegaconf import DictConfig
from pydantic import Field

from ocr.errors import UserError
from ocr.tracking.job import is_maximized
from ocr.utils.config import plain_config
from ocr.utils.typed import CLOSED, Count, Seed, build


@dataclass(frozen=True, kw_only=True)
class SweepSettings:
    """The node ``sweep``; the values stand in ``configs/sweep/default.yaml``."""

    __pydantic_config__ = CLOSED

    space: list[str]
    n_trials: Count | None
    seeds: Count
    sampler: dict[str, Any] = field(default_factory=dict)
    pruner: dict[str, Any] = field(default_factory=dict)
    storage: str | None
    resume: str | None
    workers: Count | Literal["auto"]
    gpus_per_job: Annotated[float, Field(gt=0)]


@dataclass(frozen=True)
class Objective:
    """The value of a training, and where its seeds start.

    Attributes:
        metric: ``val/...``, measured on images that are not those of the test.
        maximize: whether more is better.
        seed: of the first training of each trial.
    """

    metric: str
    maximize: bool
    seed: Seed


def read_sweep(config: DictConfig) -> tuple[SweepSettings, Objective]:
    """Settings and objective of a composed config that has a sweep.

    Raises:
        UserError: a setting is wrong; the config is none of a training; the metric is one of a test.
    """
    plain = plain_config(config)
    settings = build(SweepSettings, plain["sweep"], "sweep")
    if "optimized_metric" not in plain:
        raise UserError("+sweep=... is for runners/train.py; other jobs take -m with several values of a setting")
    metric = str(plain["optimized_metric"])
    if not metric.startswith("val/"):
        raise UserError(f"optimized_metric={metric}: a sweep chooses by a figure of validation, val/...")
    return settings, Objective(metric, is_maximized(plain, metric), build(Seed, plain["seed"], "seed"))
