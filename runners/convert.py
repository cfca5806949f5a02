"""Labels in another format: ``python runners/convert.py data=folder data.root=... format=... output=...``."""

from __future__ import annotations

import hydra
from _launch import CONFIGS, job, launch
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path=CONFIGS, config_name="convert")
@job
def main(config: DictConfig) -> None:
    from ocr.jobs.convert import ConvertSettings, convert
    from ocr.utils.config import plain_config
    from ocr.utils.typed import build

    plain = plain_config(config)
    settings = build(ConvertSettings, {key: plain[key] for key in ("data", "format", "output", "shard_mb")})
    for split, path in convert(settings).items():
        print(f"{split}  {path}")


if __name__ == "__main__":
    launch(main)
