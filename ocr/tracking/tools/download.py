"""Checkpoints that are named as W&B artifacts."""

from __future__ import annotations

import re
from pathlib import Path

import wandb

from ocr.errors import UserError, first_line
from ocr.tracking.artifacts import safe_name

PREFIX = "wandb:"


def local_checkpoint(path: str, download_to: Path, project: str, entity: str | None) -> Path:
    """A checkpoint's path; ``wandb:<artifact>`` is downloaded first.

    Args:
        path: a file, a run folder, or ``wandb:[entity/[project/]]<name>[:alias]``; without an alias ``best``.
        download_to: folder below which downloads go.
        project, entity: of a name that gives none.

    Raises:
        UserError: the artifact cannot be had.
    """
    if not path.startswith(PREFIX):
        return Path(path)
    name = path.removeprefix(PREFIX)
    if not re.fullmatch(r"(?:[^/:]+/){0,2}[^/:]+(?::[^/:]+)?", name):
        raise UserError(f"{path}: write wandb:[entity/[project/]]<name>[:alias]")
    name = name if ":" in name else f"{name}:best"
    missing_parts = {"project": project} | ({"entity": entity} if entity else {})
    try:
        artifact = wandb.Api(missing_parts, timeout=20).artifact(name, type="model")
        folder = Path(artifact.download(str(download_to / safe_name(artifact.name))))
    except Exception as error:  # the client raises many kinds for no key, no network, no such name
        raise UserError(
            f"{path}: cannot get the artifact {name} ({first_line(error)}); with the file on disk, give its path"
        ) from error
    checkpoints = sorted(folder.glob("*.ckpt"))
    if not checkpoints:
        raise UserError(f"{path}: the artifact {name} holds no .ckpt file")
    return checkpoints[0]
