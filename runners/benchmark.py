"""Measure where the time goes, a part or all: ``python runners/benchmark.py bench=sample data=sroie data.root=...``."""

from __future__ import annotations

import hydra
from _launch import CONFIGS, job, launch
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path=CONFIGS, config_name="benchmark")
@job
def main(config: DictConfig) -> None:
    from ocr.benchmark.run import benchmark
    from ocr.jobs.settings import BenchmarkSettings, read

    read(config, BenchmarkSettings)
    benchmark(config)


if __name__ == "__main__":
    launch(main)
