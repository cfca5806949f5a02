"""Going on where a run stopped.

A resumed run starts from the stopped run's own command line: its overrides come first, those of the new command
after them, so that ``resume=<run folder> trainer.max_epochs=40`` repeats nothing else. Its data is that of the stopped
run, whatever the defaults are by now.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocr.errors import UserError
from ocr.jobs.command_line.stopped_run import StoppedRun, compose, key_of, text_of, value_of
from ocr.training.run_lock import hold
from ocr.utils.archive import archive_fault

if TYPE_CHECKING:
    from omegaconf import DictConfig

LAST = Path("checkpoints", "last.ckpt")
TO_RESUME = ("optimizer_states", "lr_schedulers", "loops")


def find_checkpoint(resume: bool | str | None, runs: Path) -> Path | None:
    """The checkpoint that ``resume`` means.

    Args:
        resume: None or false for a fresh run; true for the newest run that left a checkpoint; else a run folder or
            a checkpoint file. Of a run whose ``last.ckpt`` is damaged the newest sound checkpoint is taken.
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
        return _newest_sound(found[-1].parent, "true")
    path = Path(str(resume)).expanduser()
    if path.is_dir():
        return _newest_sound(path / LAST.parent, str(resume))
    if not path.is_file():
        raise UserError(f"resume={resume}: {path} not found")
    if fault := archive_fault(path):
        raise UserError(f"resume={resume}: {fault}; resume={path.parent.parent} takes the newest sound one of that run")
    return path


def _newest_sound(folder: Path, resume: str) -> Path:
    """``last.ckpt``, or when it is damaged the newest checkpoint in its folder that can be gone on from."""
    last = folder / LAST.name
    fault = archive_fault(last) if last.is_file() else "it is not there"
    if fault is None:
        return last
    others = sorted(folder.glob("*.ckpt"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in others:
        if path != last and archive_fault(path) is None and (epoch := _epoch_of(path)) is not None:
            _say(f"resume: {last}: {fault}; going on from {path.name}, written in epoch {epoch}")
            return path
    raise UserError(f"resume={resume}: {last}: {fault}, and no other checkpoint in that folder can be gone on from")


def _epoch_of(path: Path) -> int | None:
    """The epoch that a checkpoint was written in; None for one that holds no training to go on with."""
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return int(content["epoch"]) if all(key in content for key in TO_RESUME) else None
    except Exception:  # torch raises many kinds for what is not a checkpoint
        return None


def _say(line: str) -> None:
    """Before there is a log; once, where several processes train together."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(line, file=sys.stderr)


def with_earlier_overrides(arguments: Sequence[str]) -> list[str]:
    """The command line of a resumed run, with the stopped run's overrides and data in front.

    Args:
        arguments: as in ``sys.argv[1:]``.

    Returns:
        The same list when there is no ``resume=`` or the stopped run left no ``.hydra/overrides.yaml``; else the
        list with ``resume=`` pointing at the checkpoint itself.

    Raises:
        UserError: there is no checkpoint; the stopped run's settings would run what nobody named; or this command
            asks for another network.
    """
    given = {key_of(a): a for a in arguments if "=" in a and not a.startswith("-")}
    wanted = value_of(given["resume"]) if "resume" in given else None
    if wanted in (None, False, ""):
        return list(arguments)
    runs = Path(str(value_of(given.get("paths.output", "paths.output=runs"))))
    if "name" in given or "experiment" in given:
        runs = runs / str(value_of(given.get("name") or given["experiment"]))
    path = find_checkpoint(True if wanted is True else str(wanted), runs)
    assert path is not None
    mine = [a for a in arguments if not a.startswith("resume=")] + [f"resume={text_of(str(path))}"]
    stopped = StoppedRun.read(path.parent.parent)
    if stopped is None:
        return mine
    if stopped.hidden:
        _say(f"not taken from the stopped run, for they hold secrets: {', '.join(stopped.hidden)}")
    overrides = [a for a in mine if not a.startswith("-")]
    earlier = stopped.overrides_before(overrides)
    before, now = compose(stopped.overrides), compose([*earlier, *overrides])
    kept = stopped.settings_to_keep(before, now)
    stopped.check_targets(compose([*earlier, *kept, *overrides]) if kept else now, overrides)
    stopped.check_model(before, now)
    return [*earlier, *kept, *mine]


@contextlib.contextmanager
def run_folders_held(config: DictConfig) -> Iterator[None]:
    """Around a training: its run folder, and that of the run that it goes on from, are this process's alone.

    Raises:
        UserError: another process trains or resumes one of them, or the stopped run leaves nothing to do.
    """
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    with contextlib.ExitStack() as held:
        resumed = find_checkpoint(config.resume, Path(config.paths.output, config.name))
        if rank_zero_only.rank == 0:
            held.enter_context(hold(Path(config.paths.run_dir)))
            if resumed is not None and resumed.parent.parent.resolve() != Path(config.paths.run_dir).resolve():
                held.enter_context(hold(resumed.parent.parent))
        if resumed is not None:
            check_what_is_left(config, resumed)
        yield


def check_what_is_left(config: DictConfig, resumed: Path) -> None:
    """Refuse a checkpoint that cannot be gone on from, or that has reached what this command asks for.

    Raises:
        UserError: it is damaged, or its epochs or steps are done.
    """
    from ocr.models.checkpoint_file import read_checkpoint

    content = read_checkpoint(resumed)
    if missing := [key for key in TO_RESUME if key not in content]:
        raise UserError(f"resume={resumed}: it holds weights, but no training to go on with ({', '.join(missing)})")
    done: dict[str, int] = {
        "max_epochs": content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"],
        "max_steps": content["global_step"],
    }
    for key, count in done.items():
        limit: Any = config.trainer.get(key)
        if limit is not None and 0 <= limit <= count:
            more = f"trainer.{key}=<more than {count}>"
            raise UserError(f"resume={resumed}: all of its {count} {key[4:]} are done; to go on: {more}")
