"""Test a checkpoint on a data set: ``python runners/test.py ckpt_path=... data=... data.root=...``."""

from __future__ import annotations

import hydra
from _launch import CONFIGS, job, launch
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path=CONFIGS, config_name="test")
@job
def main(config: DictConfig) -> None:
    from ocr.jobs.build import find_model, origin_of
    from ocr.jobs.check_config import validate
    from ocr.jobs.train import test
    from ocr.tracking.run import tracked_run
    from ocr.training.data_record import fill_in_data

    validate(config)
    checkpoint = find_model(config)
    fill_in_data(config, checkpoint)
    with tracked_run(config, "testing", origin_of(checkpoint)) as tracking:
        test(config, checkpoint, tracking)


if __name__ == "__main__":
    launch(main)
