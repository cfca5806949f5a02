"""Measure where the time goes, a part or all: ``python runners/benchmark.py bench=sample data=sroie data.root=...``."""

from __future__ import annotations

from _launch import job, launch
from omegaconf import DictConfig


@job("benchmark")
def main(config: DictConfig) -> None:
    from ocr.benchmark.run import benchmark
    from ocr.jobs.settings import BenchmarkSettings, read

    read(config, BenchmarkSettings)
    benchmark(config)


if __name__ == "__main__":
    launch(main)
