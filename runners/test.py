"""Test a checkpoint on a data set: ``python runners/test.py ckpt_path=... data=... data.root=...``."""

from __future__ import annotations

import hydra
from _launch import CONFIGS, job, launch
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path=CONFIGS, config_name="test")
@job
def main(config: DictConfig) -> None:
    from ocr.jobs.build import find_model
    from ocr.jobs.settings import TestSettings, job_of, read, with_data_of
    from ocr.jobs.test import test
    from ocr.tracking.run import tracked_run
    from ocr.training.loading import origin_of

    settings = read(config, TestSettings)
    checkpoint = find_model(settings)
    settings = with_data_of(checkpoint, settings)
    job = job_of(config, settings)
    with tracked_run(job, "testing", origin_of(checkpoint)) as tracking:
        test(job, settings, checkpoint, tracking)


if __name__ == "__main__":
    launch(main)
