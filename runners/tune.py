"""Choose post-processing and input size on labelled images: ``python runners/tune.py ckpt_path=... data=...``."""

from __future__ import annotations

import hydra
from _launch import CONFIGS, job, launch
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path=CONFIGS, config_name="tune")
@job
def main(config: DictConfig) -> None:
    from ocr.jobs.build import find_model, origin_of
    from ocr.jobs.check_config import validate
    from ocr.jobs.tune import tune
    from ocr.tracking.run import tracked_run
    from ocr.training.data_record import fill_in_data

    validate(config)
    checkpoint = find_model(config)
    fill_in_data(config, checkpoint)
    with tracked_run(config, "tuning", origin_of(checkpoint)) as tracking:
        tune(config, checkpoint, tracking)


if __name__ == "__main__":
    launch(main)
