"""Train a detector, then test its best checkpoint: ``python runners/train.py [group=choice] [key=value]``."""

from __future__ import annotations

import logging

import hydra
from _launch import CONFIGS, job, launch
from omegaconf import DictConfig

log = logging.getLogger(__name__)


@hydra.main(version_base="1.3", config_path=CONFIGS, config_name="train")
@job
def main(config: DictConfig) -> float | None:
    """Returns the metric named by ``optimized_metric``, for sweepers."""
    from ocr.jobs.check_config import validate
    from ocr.jobs.train import train
    from ocr.tracking.run import tracked_run
    from ocr.training.resume import run_folders_held

    validate(config)
    with run_folders_held(config), tracked_run(config, "training") as tracking:
        metrics = train(config, tracking)
    if config.optimized_metric not in metrics:
        log.warning("optimized_metric=%s was not measured, see metrics.json for what was", config.optimized_metric)
    return metrics.get(config.optimized_metric)


if __name__ == "__main__":
    launch(main)
