"""Choose post-processing and input size on labelled images: ``python runners/tune.py ckpt_path=... data=...``."""

from __future__ import annotations

import hydra
from _launch import CONFIGS, job, launch
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path=CONFIGS, config_name="tune")
@job
def main(config: DictConfig) -> None:
    from ocr.jobs.build import find_model
    from ocr.jobs.settings import TuneSettings, job_of, read, with_data_of
    from ocr.jobs.tune import tune
    from ocr.tracking.run import tracked_run
    from ocr.training.loading import origin_of

    settings = read(config, TuneSettings)
    checkpoint = find_model(settings)
    settings = with_data_of(checkpoint, settings)
    job = job_of(config, settings)
    with tracked_run(job, "tuning", origin_of(checkpoint)) as tracking:
        tune(job, settings, checkpoint, tracking)


if __name__ == "__main__":
    launch(main)
