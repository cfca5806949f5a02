"""Rank the trials of a sweep, at its end or while it runs: ``python runners/leaderboard.py dir=<folder>``."""

from __future__ import annotations

from pathlib import Path

import hydra
from _launch import CONFIGS, job, launch
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path=CONFIGS, config_name="leaderboard")
@job
def main(config: DictConfig) -> None:
    from ocr.jobs.sweep.leaderboard import publish, write_leaderboard
    from ocr.tracking.schema import check_logger
    from ocr.utils.config import plain_config

    plain = plain_config(config)
    logger, folder = check_logger(plain["logger"]), Path(str(plain["dir"])).expanduser()
    publish(write_leaderboard(folder, plain["metric"]), folder, logger)


if __name__ == "__main__":
    launch(main)
