"""Look a labelled set over before training: ``python runners/audit.py data=folder data.root=<folder>``."""

from __future__ import annotations

import sys

from _launch import job, launch
from omegaconf import DictConfig


@job("audit")
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
