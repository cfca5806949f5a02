"""Write a detector as ONNX, checked against the checkpoint: ``python runners/export.py ckpt_path=... output=...``."""

from __future__ import annotations

import hydra
from _launch import CONFIGS, job, launch
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path=CONFIGS, config_name="export")
@job
def main(config: DictConfig) -> None:
    from ocr.jobs.build import find_model
    from ocr.jobs.check_config import validate
    from ocr.jobs.export import export
    from ocr.training.data_record import fill_in_data

    validate(config)
    checkpoint = find_model(config)
    fill_in_data(config, checkpoint)
    export(config, checkpoint)


if __name__ == "__main__":
    launch(main)
