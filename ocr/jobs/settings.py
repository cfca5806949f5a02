"""Typed settings of the jobs, read from the composed config once, at their start."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, TypeVar

from omegaconf import DictConfig
from pydantic import AfterValidator, Field

from ocr.errors import UserError
from ocr.jobs.command_line.check_nodes import check_optimizer, node_faults
from ocr.jobs.command_line.hydra_job import invocation
from ocr.tracking.job import Job
from ocr.tracking.schema import LoggerSettings
from ocr.training.data_record import complete_data
from ocr.training.loading import DetectorOverrides
from ocr.utils.config import plain_config
from ocr.utils.typed import Count, Fraction, NonNegative, Seed, Text, build

Node = dict[str, Any]  # a node of the config, resolved: `_target_` and arguments, made by ocr.utils.config.instantiate
Overlays = bool | Annotated[int, Field(ge=0)]


def _within_output(name: str) -> str:
    path = PurePath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise ValueError("the name of a folder within paths.output")
    return name


RunName = Annotated[str, AfterValidator(_within_output)]


@dataclass(frozen=True)
class Paths:
    """Where a job writes."""

    output: str
    run_dir: str


@dataclass(frozen=True)
class ModelSettings:
    """Settings of the network and of its loss."""

    network: Node
    pipeline: Node
    loss: Node
    compile: bool | Literal["auto"]
    replace_slow_cpu_layers: bool
    weights: str | None = None


@dataclass(frozen=True, kw_only=True)
class ModuleSettings:
    """Settings of a module that learns."""

    seed: Seed
    paths: Paths
    data: Node
    model: ModelSettings
    optimizer: Node
    schedule: Node
    lr_multipliers: dict[str, float]
    metrics: Node
    trainer: Node
    callbacks: Node


@dataclass(frozen=True, kw_only=True)
class TrainSettings(ModuleSettings):
    """``configs/train.yaml``."""

    name: RunName
    logger: LoggerSettings
    tuning: Node
    keep_start: bool
    tune: bool
    test: bool
    resume: bool | str | None
    trusted_targets: list[str]
    optimized_metric: str
    overlays: Overlays


@dataclass(frozen=True, kw_only=True)
class DetectorSettings:
    """Settings of a job that reads a detector."""

    ckpt_path: Text
    paths: Paths
    logger: LoggerSettings
    resize: Node
    postprocess: Node
    trusted_targets: list[str]
    tta: Node = field(default_factory=dict)
    fallback_pipeline: Node | None = None

    @property
    def overrides(self) -> DetectorOverrides:
        """The command line's changes to the stored detector."""
        return DetectorOverrides(self.resize, self.postprocess, self.tta, self.fallback_pipeline, self.trusted_targets)


@dataclass(frozen=True, kw_only=True)
class TestSettings(DetectorSettings):
    """``configs/test.yaml``."""

    __test__ = False  # for pytest, which collects classes by this prefix

    name: RunName
    seed: Seed
    data: Node
    split: str
    upright: bool
    legible_height: NonNegative
    trainer: Node
    metrics: Node
    overlays: Overlays


@dataclass(frozen=True, kw_only=True)
class TuneSettings(DetectorSettings):
    """``configs/tune.yaml``."""

    name: RunName
    seed: Seed
    data: Node
    split: str
    trainer: Node
    tuning: Node


@dataclass(frozen=True, kw_only=True)
class ExportSettings(DetectorSettings):
    """``configs/export.yaml``."""

    seed: Seed
    data: Node
    split: str
    output: str
    precision: Literal["fp32", "fp16_weights", "fp16", "int8"]
    data_paths: bool
    images: Count
    calibration_images: Count
    max_loss: Fraction


@dataclass(frozen=True, kw_only=True)
class PredictSettings(DetectorSettings):
    """``configs/predict.yaml``."""

    source: str
    output: str
    formats: list[str]
    upright: bool
    legible_height: NonNegative
    overlays: bool
    accelerator: str
    batch_size: Count
    num_workers: int | str


@dataclass(frozen=True, kw_only=True)
class MakeDataSettings:
    """``configs/make_data.yaml``."""

    output: str
    count: Count
    seed: Seed
    difficulty: Fraction


@dataclass(frozen=True, kw_only=True)
class BenchmarkSettings(ModuleSettings):
    """``configs/benchmark.yaml``."""

    name: RunName
    bench: str | list[str]
    repeats: Count
    budget: NonNegative
    images: Count
    steps: Count
    goals: dict[str, dict[str, float]]


S = TypeVar("S")


def read(config: DictConfig, kind: type[S]) -> S:
    """The settings of a job, checked as a whole: kinds and ranges, and the arguments of every ``_target_``.

    Raises:
        UserError: settings are wrong; all are named, in one line.
    """
    plain = plain_config(config)
    problems = node_faults(plain)
    try:
        settings = build(kind, plain)
    except UserError as error:
        raise UserError("; ".join([str(error), *problems])) from None
    if problems:
        raise UserError("; ".join(problems))
    if isinstance(settings, ModuleSettings):
        check_optimizer(settings.optimizer, settings.schedule, settings.lr_multipliers)
    return settings


D = TypeVar("D", TestSettings, TuneSettings, ExportSettings)


def with_data_of(checkpoint: Path, settings: D) -> D:
    """The settings with the data of the checkpoint, where the command line names no other.

    Raises:
        UserError: see :func:`ocr.training.data_record.complete_data`.
    """
    return replace(settings, data=complete_data(settings.data, settings.split, checkpoint, settings.trusted_targets))


def job_of(config: DictConfig, settings: TrainSettings | TestSettings | TuneSettings) -> Job:
    """The job as its record shows it; the ``data`` of its settings may be that of a checkpoint."""
    recorded = plain_config(config) | {"data": settings.data}
    return Job(settings.name, Path(settings.paths.run_dir), recorded, settings.logger, **invocation())
