"""Facts about the job from Hydra's own config."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from ocr.jobs.command_line.overrides import key_of

SWEEP = "sweep.json"  # in a sweep's folder: what its jobs have in common


def invocation() -> dict[str, Any]:
    """``overrides``, and of a sweep ``varied``, ``sweep`` and ``number`` of :class:`ocr.tracking.job.Job`."""
    if not HydraConfig.initialized():
        return {}
    hydra = HydraConfig.get()
    unresolved: Any = OmegaConf.to_container(hydra.overrides.task, resolve=False)
    overrides = [str(override) for override in unresolved]
    if hydra.mode != RunMode.MULTIRUN:
        return {"overrides": overrides}
    sweep = {"sweep": Path(hydra.sweep.dir).name, "number": int(hydra.job.num)}
    keys, seeds = _sweep_facts(Path(hydra.sweep.dir))
    varied = {key_of(o): o.partition("=")[2] for o in overrides if key_of(o) in keys}
    return {"overrides": overrides, "varied": varied, "seeds": seeds, **sweep}


def _sweep_facts(folder: Path) -> tuple[list[str], int]:
    """Settings that a sweep varies, and its trainings per trial, as it has written down in its folder."""
    try:
        content = json.loads((folder / SWEEP).read_text(encoding="utf-8"))
        return [key_of(key) for key in content["space"]], int(content.get("seeds", 1))
    except (OSError, ValueError, KeyError, TypeError):  # a sweeper that is not this project's
        return [], 1


def rank_command(rank: int) -> tuple[list[str], str]:
    """The command that runs this job as another rank, and the folder to start it in."""
    hydra = HydraConfig.get()
    arguments = sys.argv[1:]
    if hydra.mode == RunMode.MULTIRUN:
        arguments = [f"--config-name={hydra.job.config_name}", *hydra.overrides.task]
    folder = hydra.runtime.output_dir.replace("\\", "\\\\").replace('"', '\\"')
    own = [f'hydra.run.dir="{folder}"', f"hydra.job.name=rank_{rank}", "hydra.output_subdir=null"]
    return [sys.executable, os.path.abspath(sys.argv[0]), *arguments, *own], hydra.runtime.cwd
