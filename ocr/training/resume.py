"""The checkpoint that a resumed run goes on from, and the folders that it holds while it trains."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ocr.errors import UserError
from ocr.utils.files import archive_fault
from ocr.utils.locks import lock_file

LOCK = ".lock"
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
        checkpoints = sorted(runs.glob(f"**/{LAST}"), key=lambda path: path.stat().st_mtime)
        if not checkpoints:
            raise UserError(f"resume=true: no {LAST} below {runs}")
        return _newest_sound(checkpoints[-1].parent, "true")
    path = Path(str(resume)).expanduser()
    if path.is_dir():
        return _newest_sound(path / LAST.parent, str(resume))
    if not path.is_file():
        raise UserError(f"resume={resume}: {path} not found")
    if fault := archive_fault(path):
        raise UserError(f"resume={resume}: {fault}; resume={path.parent.parent} takes the newest sound one of that run")
    return path


def interrupted_checkpoint(folder: Path) -> Path | None:
    """Checkpoint from which an interrupted sweep job resumes in its own folder; None for a fresh start.

    A scheduler that takes a machine back starts the job again with the arguments that it had.
    """
    if not (folder / LAST).is_file() or (folder / "metrics.json").exists():
        return None
    try:
        return _newest_sound(folder / LAST.parent, str(folder))
    except UserError as error:
        say_once(f"{error}; the training begins again")
        return None


def _newest_sound(folder: Path, resume: str) -> Path:
    """``last.ckpt``, or when it is damaged the newest checkpoint in its folder that can be gone on from."""
    last = folder / LAST.name
    fault = archive_fault(last) if last.is_file() else "it is not there"
    if fault is None:
        return last
    others = sorted(folder.glob("*.ckpt"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in others:
        if path != last and archive_fault(path) is None and (epoch := _epoch_of(path)) is not None:
            say_once(f"resume: {last}: {fault}; going on from {path.name}, written in epoch {epoch}")
            return path
    raise UserError(f"resume={resume}: {last}: {fault}, and no other checkpoint in that folder can be gone on from")


def _epoch_of(path: Path) -> int | None:
    """The epoch that a checkpoint was written in; None for one that holds no training to go on with."""
    from ocr.training.loading import checkpoint_entries

    entries = checkpoint_entries(path)
    epoch = entries.get("epoch")
    return epoch if isinstance(epoch, int) and set(TO_RESUME) <= set(entries) else None


def say_once(line: str) -> None:
    """A line to stderr before there is a log, on the first rank only."""
    from ocr.utils.distributed import started_ranks

    if os.environ.get("LOCAL_RANK", "0") == "0" and started_ranks()[0] == 0:
        print(line, file=sys.stderr)


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keep other processes from training into a run folder or resuming it, see :func:`lock_file`.

    Where the folder cannot be written, nobody can train into it, and there is no lock.

    Raises:
        UserError: another process holds it.
    """
    with contextlib.ExitStack() as held:
        try:
            file = held.enter_context(lock_file(folder / LOCK, wait=False))
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
        except BlockingIOError as error:
            holder = (folder / LOCK).read_text().strip() or "another process"
            raise UserError(f"{folder} is in use: {holder} trains or resumes it; wait for it or end it") from error
        except OSError:
            pass
        yield


@contextlib.contextmanager
def lock_run_folders(folder: Path, resumed: Path | None, trainer: Mapping[str, Any]) -> Iterator[None]:
    """Lock a training's run folder, and that of the run that it resumes, for this process.

    Args:
        resumed: the checkpoint that it goes on from, see :func:`find_checkpoint`.
        trainer: settings of the trainer, of which ``max_epochs`` and ``max_steps`` are read.

    Raises:
        UserError: another process trains or resumes one of them, or the stopped run leaves nothing to do.
    """
    from ocr.utils.distributed import this_rank

    with contextlib.ExitStack() as held:
        if this_rank() == 0:
            held.enter_context(hold(folder))
            if resumed is not None:
                in_its_own_folder = resumed.parent.parent.resolve() == folder.resolve()
                if not in_its_own_folder:
                    held.enter_context(hold(resumed.parent.parent))
                # else it may have been killed between its last epoch and its figures
                if not in_its_own_folder or (folder / "metrics.json").exists():
                    check_remaining(resumed, trainer)
        yield


def check_remaining(resumed: Path, trainer: Mapping[str, Any]) -> None:
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
        limit = trainer.get(key)
        if limit is not None and 0 <= limit <= count:
            more = f"trainer.{key}=<more than {count}>"
            raise UserError(f"resume={resumed}: all of its {count} {key[4:]} are done; to go on: {more}")
