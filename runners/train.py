"""Train a detector, then test its best checkpoint: ``python runners/train.py [group=choice] [key=value]``."""

from __future__ import annotations

import logging
from pathlib import Path

import hydra
from _launch import CONFIGS, job, launch
from omegaconf import DictConfig

log = logging.getLogger(__name__)


@hydra.main(version_base="1.3", config_path=CONFIGS, config_name="train")
@job
def main(config: DictConfig) -> float | None:
    """Returns the metric named by ``optimized_metric``, for sweepers."""
    from ocr.jobs.settings import TrainSettings, job_of, read
    from ocr.jobs.train import train
    from ocr.tracking.run import tracked_run
    from ocr.training.resume import find_checkpoint, interrupted_checkpoint, lock_run_folders

    settings = read(config, TrainSettings)
    job = job_of(config, settings)
    resumed = find_checkpoint(settings.resume, Path(settings.paths.output, settings.name))
    if resumed is None and job.sweep:
        resumed = interrupted_checkpoint(job.folder)
    with lock_run_folders(job.folder, resumed, settings.trainer), tracked_run(job, "training") as tracking:
        metrics = train(job, settings, tracking, resumed)
    if settings.optimized_metric not in metrics:
        log.warning("optimized_metric=%s was not measured, see metrics.json for what was", settings.optimized_metric)
    return metrics.get(settings.optimized_metric)


if __name__ == "__main__":
    launch(main)
