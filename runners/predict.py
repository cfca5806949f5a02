"""Find text in pictures: ``python runners/predict.py ckpt_path=... source=<image, folder or glob> output=<folder>``."""

from __future__ import annotations

from _launch import job, launch
from omegaconf import DictConfig


@job("predict")
def main(config: DictConfig) -> None:
    from ocr.jobs.build import find_model
    from ocr.jobs.predict import predict
    from ocr.jobs.settings import PredictSettings, read

    settings = read(config, PredictSettings)
    predict(settings, find_model(settings))


if __name__ == "__main__":
    launch(main)
