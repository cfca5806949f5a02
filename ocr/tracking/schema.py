"""The settings of ``configs/logger/wandb.yaml`` as types. The values stand there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from ocr.utils.typed import CLOSED, Fraction, NonNegative, Text, build


@dataclass(frozen=True)
class Switch:
    """``logger.wandb``."""

    __pydantic_config__ = CLOSED

    enabled: bool


@dataclass(frozen=True)
class PerBatchImages:
    """``logger.per_batch_image_logging``."""

    __pydantic_config__ = CLOSED

    enabled: bool
    recall_threshold: Fraction
    max_batches: Annotated[int, Field(ge=0, le=1000)]
    max_images: Annotated[int, Field(ge=1, le=108)]  # W&B shows 108 of a step
    max_side: Annotated[int, Field(ge=32, le=8192)]
    seconds: NonNegative
    table_rows: Annotated[int, Field(ge=0, le=10_000)]


@dataclass(frozen=True)
class ArtifactSettings:
    """``logger.artifacts``."""

    __pydantic_config__ = CLOSED

    checkpoints: Literal["end", "best", "none"]
    dataset: bool
    keep: Annotated[int, Field(ge=0, le=1000)]


@dataclass(frozen=True)
class LoggerSettings:
    """``logger``."""

    __pydantic_config__ = CLOSED

    wandb: Switch
    project_name: Text
    entity: Text | None
    user: Text | None
    exp_version: Text | None
    run_name: Text | None
    offline: bool | None
    tags: list[Text]
    group: Text | None
    job_type: Text | None
    notes: Text | None
    save_dir: str
    resume: bool
    hostname: bool
    private: bool
    init_timeout: Annotated[float, Field(ge=1, le=3600)]
    finish_timeout: Annotated[float, Field(ge=1, le=86_400)]
    transmit_interval: Annotated[int, Field(ge=1, le=3600)]
    system_metrics_interval: NonNegative
    artifacts: ArtifactSettings
    per_batch_image_logging: PerBatchImages


def check_logger(config: Mapping[str, Any]) -> LoggerSettings:
    """The logger's config, plain and resolved, as typed settings.

    Raises:
        UserError: settings are unknown, missing, of the wrong kind or out of range; all are named.
    """
    return build(LoggerSettings, config, "logger")
