"""Configs, settings and jobs of a training, made without running one."""

from __future__ import annotations

from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from ocr.jobs.settings import TrainSettings, job_of, read
from ocr.tracking.job import Job
from tests.conftest import ROOT


def composed(*overrides: str) -> DictConfig:
    """The config of a training, as the runner composes it."""
    OmegaConf.register_new_resolver("token", lambda: "t", use_cache=True, replace=True)
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("train", overrides=["paths.run_dir=there", *overrides])


def settings(*overrides: str) -> TrainSettings:
    """The settings of a training, as its runner reads them."""
    return read(composed(*overrides), TrainSettings)


def job_for(*overrides: str, folder: Path) -> Job:
    """A training as its record shows it."""
    config = composed(f"paths.run_dir={folder}", *overrides)
    return job_of(config, read(config, TrainSettings))
