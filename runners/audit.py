"""Look a labelled set over before training: ``python runners/audit.py data=folder data.root=<folder>``."""

from __future__ import annotations

import sys

import hydra
from _launch import CONFIGS, job, launch
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path=CONFIGS, config_name="audit")
@job
def main(config: DictConfig) -> None:
    from ocr.jobs.audit import AuditSettings, audit
    from ocr.utils.config import plain_config
    from ocr.utils.typed import build

    plain = plain_config(config)
    settings = build(AuditSettings, plain | {"pipeline": plain["model"]["pipeline"]})
    if not audit(settings):
        sys.exit(1)


if __name__ == "__main__":
    launch(main)
