"""Find text in pictures: ``python runners/predict.py ckpt_path=... source=<image, folder or glob> output=<folder>``."""

from __future__ import annotations

import hydra
from _launch import CONFIGS, job, launch
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path=CONFIGS, config_name="predict")
@job
def main(config: DictConfig) -> None:
    from ocr.jobs.build import find_model
    from ocr.jobs.check_config import validate
    from ocr.jobs.predict import predict

    validate(config)
    predict(config, find_model(config))


if __name__ == "__main__":
    launch(main)
