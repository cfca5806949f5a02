"""Comparisons with other projects, growth with the set's size, the cost of W&B; ten minutes each.

``python -m tests.benchmark.peers bench=growth data=sroie data.root=<folder>``; ``bench=[peers,training]`` need
``+peers_root=<folder with checkouts of the other projects>``.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "runners"))

import hydra
from _launch import CONFIGS, job, launch
from omegaconf import DictConfig, OmegaConf

PARTS = {name: f"tests.benchmark.peers.{name}.{name}" for name in ("peers", "training", "growth", "wandb_cost")}
GOALS = {
    "peers.targets.ours_over_official_db": {"most": 0.1},
    "peers.targets.ours_over_fastest": {"most": 0.333},
    "peers.postprocess.ours_over_fastest": {"most": 0.6},
    "peers.inference.ours_over_fastest": {"most": 0.9},
    "training.throughput_ratio": {"least": 1.5},
    "wandb.epoch_that_logs": {"most": 1.03},
    "growth.100000.memory": {"most": 1500},
}
SETTINGS = {"peers_root": None, "growth_most": 10_000}  # images of the largest set that growth makes


@hydra.main(version_base="1.3", config_path=CONFIGS, config_name="benchmark")
@job
def main(config: DictConfig) -> None:
    from ocr.benchmark.run import benchmark

    OmegaConf.set_struct(config, False)
    config.goals = GOALS
    benchmark(OmegaConf.merge(SETTINGS, config), PARTS)


if __name__ == "__main__":
    launch(main)
