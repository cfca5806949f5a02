"""Facts about the job from Hydra's own config."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf


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
    return {"overrides": overrides, "varied": _varied(overrides), **sweep}


def _varied(overrides: Sequence[str]) -> list[str]:
    """The overrides that a sweep varies, as far as the command line tells: those that have several values there."""
    several = {a.split("=", 1)[0] for a in sys.argv[1:] if "=" in a and _has_several(a.split("=", 1)[1])}
    return [o for o in overrides if o.split("=", 1)[0] in several] or list(overrides)


def _has_several(value: str) -> bool:
    try:
        return OverridesParser.create().parse_override(f"x={value}").is_sweep_override()
    except HydraException:  # another word of the command line
        return False


def rank_command(rank: int) -> tuple[list[str], str]:
    """The command that runs this job as another rank, and the folder to start it in."""
    hydra = HydraConfig.get()
    arguments = sys.argv[1:]
    if hydra.mode == RunMode.MULTIRUN:
        arguments = [f"--config-name={hydra.job.config_name}", *hydra.overrides.task]
    folder = hydra.runtime.output_dir.replace("\\", "\\\\").replace('"', '\\"')
    own = [f'hydra.run.dir="{folder}"', f"hydra.job.name=rank_{rank}", "hydra.output_subdir=null"]
    return [sys.executable, os.path.abspath(sys.argv[0]), *arguments, *own], hydra.runtime.cwd
