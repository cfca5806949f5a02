"""The command line of another worker of a sweep."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from ocr.errors import UserError
from ocr.jobs.command_line.hydra_job import SWEEP
from ocr.jobs.command_line.overrides import key_of, text_of
from ocr.tracking.secret_patterns import HIDDEN

# settings of one worker, not of the sweep or its jobs
OWN = ("sweep.resume", "sweep.workers", "hydra/launcher", "hydra.launcher", "hydra.sweep")


def resume_override(folder: Path) -> str:
    """``sweep.resume=<folder>``, quoted for Hydra where it must be."""
    path = str(folder)
    plain = re.fullmatch(r"[\w./-]+", path, re.ASCII)
    return f"sweep.resume={path if plain else text_of(path)}"


def worker_arguments(command: Sequence[str], folder: Path) -> list[str]:
    """The overrides with which a worker joins the sweep of a folder that was begun with those of ``command``."""
    kept = [override for override in command if not key_of(override).startswith(OWN)]
    return [*kept, resume_override(folder), "sweep.workers=1", "hydra/launcher=basic"]


def joining_arguments(folder: Path, more: Sequence[str]) -> tuple[list[str], str]:
    """Overrides of a worker that joins the sweep of a folder, ``more`` last; the working folder of the sweep's command.

    Raises:
        UserError: it is no sweep with ``+sweep=``, or its command line held secrets.
    """
    try:
        sweep = json.loads((folder / SWEEP).read_text(encoding="utf-8"))
        command, cwd = sweep["command"], sweep["cwd"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} is not the folder of a sweep with +sweep=... ({SWEEP})") from error
    if not Path(cwd).is_dir():
        raise UserError(f"{folder}: that sweep was begun in {cwd}, which is not there")
    if hidden := [override for override in command if HIDDEN in override]:
        raise UserError(f"the sweep's own command is needed, for it held secrets: {', '.join(hidden)}")
    return [*worker_arguments(command, folder.resolve()), *more], cwd
