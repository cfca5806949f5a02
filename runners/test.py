"""Test a checkpoint on a data set: ``python runners/test.py ckpt_path=... data=... data.root=...``."""

from __future__ import annotations

import hydra
from _launch import CONFIGS, job, launch
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path=CONFIGS, config_name="test")
@job
def main(config: DictConfig) -> None:
    from ocr.tracking.run import tracked_run
    from ocr.training.jobs import test

    with tracked_run(config, "testing") as logger:
        test(config, logger)


if __name__ == "__main__":
    launch(main)
