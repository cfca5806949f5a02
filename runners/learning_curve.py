"""Estimate the worth of more labelled images: ``runners/learning_curve.py experiment=finetune data.root=<folder>``."""

from __future__ import annotations

from pathlib import Path

import hydra
from _launch import CONFIGS, job, launch
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path=CONFIGS, config_name="learning_curve")
@job
def main(config: DictConfig) -> None:
    from ocr.jobs.command_line.hydra_job import invocation
    from ocr.jobs.command_line.overrides import key_of, text_of
    from ocr.jobs.learning_curve import OWN_SETTINGS, CurveSettings, learning_curve
    from ocr.jobs.settings import TrainSettings, read
    from ocr.utils.config import plain_config
    from ocr.utils.typed import build

    training = read(config, TrainSettings)
    given = [o for o in invocation()["overrides"] if key_of(o).split(".")[0] not in OWN_SETTINGS]
    group = text_of(training.logger.group or f"learning_curve_{Path(config.curve.output).name}")
    own = [f"{key}={getattr(training, key)}".lower() for key in ("keep_start", "test", "tune")]
    own.append(f"logger.group={group}")
    shared = {"data": training.data, "pipeline": training.model.pipeline, "seed": training.seed,
              "metric": training.optimized_metric, "overrides": [*given, *own]}  # fmt: skip
    learning_curve(build(CurveSettings, plain_config(config.curve) | shared, "curve"))


if __name__ == "__main__":
    launch(main)
