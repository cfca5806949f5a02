"""Write synthetic receipts to disk in ICDAR form: ``python runners/make_data.py output=<folder> count=100``."""

from __future__ import annotations

import hydra
from _launch import CONFIGS, job, launch
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path=CONFIGS, config_name="make_data")
@job
def main(config: DictConfig) -> None:
    from ocr.jobs.make_data import write_icdar
    from ocr.jobs.settings import MakeDataSettings, read

    settings = read(config, MakeDataSettings)
    folder = write_icdar(settings.output, settings.count, settings.seed, settings.difficulty)
    print(f"{settings.count} receipts in {folder}; train on them: data=folder data.root={folder}")


if __name__ == "__main__":
    launch(main)
