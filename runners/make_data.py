"""Write synthetic receipts to disk in ICDAR form: ``python runners/make_data.py output=<folder> count=100``."""

from __future__ import annotations

import hydra
from _launch import CONFIGS, job, launch
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path=CONFIGS, config_name="make_data")
@job
def main(config: DictConfig) -> None:
    from ocr.jobs.check_config import validate
    from ocr.jobs.make_data import write_icdar

    validate(config)
    folder = write_icdar(config.output, config.count, config.seed, config.difficulty)
    print(f"{config.count} receipts in {folder}; train on them: data=folder data.root={folder}")


if __name__ == "__main__":
    launch(main)
