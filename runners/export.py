"""Write a detector as ONNX, checked against the checkpoint: ``python runners/export.py ckpt_path=... output=...``."""

from __future__ import annotations

from _launch import job, launch
from omegaconf import DictConfig


@job("export")
def main(config: DictConfig) -> None:
    from ocr.jobs.build import find_model
    from ocr.jobs.export import export
    from ocr.jobs.settings import ExportSettings, read, with_data_of

    settings = read(config, ExportSettings)
    checkpoint = find_model(settings)
    export(with_data_of(checkpoint, settings), checkpoint)


if __name__ == "__main__":
    launch(main)
