"""Going on where a run stopped."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from ocr.errors import UserError


def find_checkpoint(config: DictConfig) -> str | None:
    """The checkpoint that ``resume`` means.

    Args:
        config: ``resume`` is null or false for a fresh run; true for the newest run of this name; else a run folder
            or a checkpoint file.

    Raises:
        UserError: there is none.
    """
    wanted = config.resume
    if wanted is None or wanted is False:
        return None
    if wanted is True:
        found = sorted(
            Path(config.paths.output, config.name).glob("**/checkpoints/last.ckpt"), key=lambda p: p.stat().st_mtime
        )
        if not found:
            raise UserError(f"resume=true: no checkpoint below {Path(config.paths.output, config.name)}")
        return str(found[-1])
    path = Path(str(wanted)).expanduser()
    if path.is_dir():
        path = path / "checkpoints" / "last.ckpt"
    if not path.is_file():
        raise UserError(f"resume={wanted}: {path} not found")
    return str(path)
