"""The folder of a sweep: refused when it is in use, and what is written there beside the jobs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ocr.errors import UserError
from ocr.jobs.command_line.hydra_job import SWEEP
from ocr.jobs.sweep.leaderboard import publish, write_leaderboard
from ocr.sweeps.study import CLAIMS
from ocr.tracking.schema import check_logger
from ocr.tracking.secrets import redactor_for
from ocr.utils.config import plain_config
from ocr.utils.files import make_folder, write_atomic
from ocr.utils.locks import lock_file


def begin_folder(folder: Path, sweep: Mapping[str, Any], config: DictConfig, way_on: str) -> None:
    """Make the folder of a new sweep: ``multirun.yaml``, as Hydra's own sweepers write it, and ``sweep.json``.

    Args:
        folder, config: of the sweep.
        sweep: what its jobs have in common; ``space`` has the settings that vary.
        way_on: what to do where the folder is in use, for the message.

    Raises:
        UserError: it has the jobs of another sweep, or cannot be written to.
    """
    make_folder(folder, "hydra.sweep.dir")
    if any(folder.glob("*/.hydra")) or (folder / SWEEP).is_file():
        raise UserError(f"{folder} has the jobs of another sweep: {way_on}")
    redactor = redactor_for(plain_config(config))
    content: Any = OmegaConf.to_container(config, resolve=False)
    write_atomic(folder / "multirun.yaml", OmegaConf.to_yaml(OmegaConf.create(redactor.settings(content))))
    write_atomic(folder / SWEEP, json.dumps(redactor.plain(sweep), indent=1, ensure_ascii=False) + "\n")


def check_same(folder: Path, sweep: Mapping[str, Any]) -> dict[str, Any]:
    """Check that a command goes on with the sweep that a folder has; the settings of that one.

    Raises:
        UserError: it is no sweep's folder, or that of a sweep with other settings or begun in another working folder,
            where relative paths would lead elsewhere.
    """
    path = folder / SWEEP
    try:
        before: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        different = [key for key in sweep if key != "command" and before[key] != sweep[key]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"sweep.resume={folder}: {path} cannot be read: is this the folder of a sweep?") from error
    if different == ["cwd"]:
        raise UserError(f"sweep.resume={folder}: that sweep was begun in another folder: cd {before['cwd']}")
    if different:
        words = "; ".join(f"{key} was {before[key]!r}, is {sweep[key]!r}" for key in different)
        raise UserError(f"sweep.resume={folder}: that sweep had other settings: {words}")
    return before


def rank_jobs(config: DictConfig, folder: Path) -> None:
    """Rank the jobs of a sweep, on the screen, in its folder and in W&B; one worker at a time."""
    logger = check_logger(plain_config(config.logger) | {"save_dir": str(folder)})
    with lock_file(folder / CLAIMS / "ranking"):
        publish(write_leaderboard(folder), folder, logger)
