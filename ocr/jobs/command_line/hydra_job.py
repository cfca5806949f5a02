"""Facts about the job from Hydra's own config."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from ocr.errors import UserError
from ocr.jobs.command_line.overrides import key_of, text_of
from ocr.utils.distributed import started_ranks

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
    keys, seeds = _varied_settings(Path(hydra.sweep.dir))
    varied = {key_of(o): o.partition("=")[2] for o in overrides if key_of(o) in keys}
    return {"overrides": overrides, "varied": varied, "seeds": seeds, **sweep}


def _varied_settings(folder: Path) -> tuple[list[str], int]:
    """Settings that a sweep varies, and its trainings per trial, as it has written down in its folder."""
    try:
        content = json.loads((folder / SWEEP).read_text(encoding="utf-8"))
        return [key_of(key) for key in content["space"]], int(content.get("seeds", 1))
    except (OSError, ValueError, KeyError, TypeError):  # a sweeper that is not this project's
        return [], 1


def folder_of_rank(arguments: Sequence[str]) -> list[str]:
    """Overrides of a process that torchrun or srun has started as a rank above 0.

    Hydra would give each rank a run folder; theirs is a temporary one, for only rank 0 writes.

    Raises:
        UserError: it is a sweep, which starts its jobs itself.
    """
    rank, ranks = started_ranks()
    if ranks > 1 and {"-m", "--multirun"} & {*arguments}:
        raise UserError(
            "a sweep starts its jobs itself: leave out torchrun or srun; hydra/launcher=... is for machines"
        )
    if rank == 0:
        return []
    folder = tempfile.mkdtemp(prefix=f"rank_{rank}_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return [f"hydra.run.dir={text_of(folder)}", "hydra.output_subdir=null"]


def rank_command(rank: int) -> tuple[list[str], str]:
    """The command that runs this job as another rank, and the folder to start it in."""
    hydra = HydraConfig.get()
    arguments = sys.argv[1:]
    if hydra.mode == RunMode.MULTIRUN:
        arguments = [f"--config-name={hydra.job.config_name}", *hydra.overrides.task]
    run_dir = f"hydra.run.dir={text_of(hydra.runtime.output_dir)}"
    own = [run_dir, f"hydra.job.name=rank_{rank}", "hydra.output_subdir=null"]
    return [sys.executable, os.path.abspath(sys.argv[0]), *arguments, *own], hydra.runtime.cwd
