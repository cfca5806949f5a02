"""A tiny run: a small network on a few drawn receipts, through the real runners."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

TINY = [
    "model.backbone.name=mobilenetv3_small_050",
    "model.neck.channels=16",
    "model.head.channels=4",
    "model.pipeline.resize.long_side=160",
    "data.train=[{format:synthetic,count:8,seed:1}]",
    "data.val=[{format:synthetic,count:3,seed:2}]",
    "data.test=[{format:synthetic,count:3,seed:3}]",
    "data.geometry.crop_size=[96,96]",
    "data.batch_size=4",
    "data.num_workers=0",
    "trainer=cpu",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=1",
]
OFF = "logger.wandb.enabled=false"


def run(runner: str, *arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Start a runner as a user would."""
    command = [sys.executable, str(ROOT / "runners" / f"{runner}.py"), *arguments]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=400, env={**os.environ, **env, "COLUMNS": "200"}
    )


def run_folder(cwd: Path, name: str = "synthetic") -> Path:
    """The newest run folder below ``cwd``."""
    folders = [p for p in (cwd / "runs" / name).iterdir() if p.is_dir()]
    return max(folders, key=lambda p: p.stat().st_mtime)
