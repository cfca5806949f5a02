"""Going on where a run stopped.

A resumed run starts from the stopped run's own command line: its overrides come first, those of the new command
after them, so that ``resume=<run folder> trainer.max_epochs=40`` repeats nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from ocr.errors import UserError
from ocr.tracking.secrets import HIDDEN

LAST = Path("checkpoints", "last.ckpt")


def find_checkpoint(resume: bool | str | None, runs: Path) -> Path | None:
    """The checkpoint that ``resume`` means.

    Args:
        resume: None or false for a fresh run; true for the newest run that left a checkpoint; else a run folder or
            a checkpoint file.
        runs: where ``true`` looks.

    Raises:
        UserError: there is none.
    """
    if resume is None or resume is False:
        return None
    if resume is True:
        found = sorted(runs.glob(f"**/{LAST}"), key=lambda path: path.stat().st_mtime)
        if not found:
            raise UserError(f"resume=true: no {LAST} below {runs}")
        return found[-1]
    path = Path(str(resume)).expanduser()
    path = path / LAST if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"resume={resume}: {path} not found")
    return path


def with_earlier_overrides(arguments: Sequence[str]) -> list[str]:
    """The command line of a resumed run, with the stopped run's overrides in front.

    Args:
        arguments: as in ``sys.argv[1:]``.

    Returns:
        The same list when there is no ``resume=`` or the stopped run left no ``.hydra/overrides.yaml``; else the
        list with ``resume=`` pointing at the checkpoint itself.
    """
    from omegaconf import OmegaConf

    given = dict(a.split("=", 1) for a in arguments if "=" in a and not a.startswith("-"))
    wanted = given.get("resume", "null").strip("'\"")
    if wanted.lower() in ("null", "none", "false", ""):
        return list(arguments)
    runs = Path(given.get("paths.output", "runs"))
    if "name" in given or "experiment" in given:
        runs = runs / given.get("name", given.get("experiment", ""))
    path = find_checkpoint(True if wanted.lower() == "true" else wanted, runs)
    assert path is not None
    mine = [a for a in arguments if not a.startswith("resume=")] + [f"resume='{path}'"]
    record = path.parent.parent / ".hydra" / "overrides.yaml"
    if not record.is_file():
        return mine
    earlier = [str(o) for o in OmegaConf.to_container(OmegaConf.load(record))]  # type: ignore[union-attr]
    hidden = [o.split("=", 1)[0] for o in earlier if HIDDEN in o]
    if hidden:
        print(f"not taken from the stopped run, for they hold secrets: {', '.join(hidden)}", file=sys.stderr)
    earlier = [o for o in earlier if HIDDEN not in o]
    keys = {a.split("=", 1)[0].lstrip("+~") for a in mine}
    return [o for o in earlier if o.split("=", 1)[0].lstrip("+~") not in keys] + mine
