"""Write a detector as ONNX, checked against the checkpoint: ``python runners/export.py ckpt_path=... output=...``."""

from __future__ import annotations

import hydra
from _launch import CONFIGS, job, launch
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path=CONFIGS, config_name="export")
@job
def main(config: DictConfig) -> None:
    from ocr.jobs.build import find_model
    from ocr.jobs.export import export
    from ocr.jobs.settings import ExportSettings, read, with_data_of

    settings = read(config, ExportSettings)
    checkpoint = find_model(settings)
    export(with_data_of(checkpoint, settings), checkpoint)


if __name__ == "__main__":
    launch(main)
