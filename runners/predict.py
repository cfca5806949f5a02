"""Find text in pictures: ``python runners/predict.py ckpt_path=... source=<image, folder or glob> output=<folder>``."""

from __future__ import annotations

import hydra
from _launch import CONFIGS, job, launch
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path=CONFIGS, config_name="predict")
@job
def main(config: DictConfig) -> None:
    from ocr.jobs.build import find_model
    from ocr.jobs.predict import predict
    from ocr.jobs.settings import PredictSettings, read

    settings = read(config, PredictSettings)
    predict(settings, find_model(settings))


if __name__ == "__main__":
    launch(main)
