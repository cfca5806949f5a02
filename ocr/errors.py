"""The one exception whose message is meant for the user."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import traceback
from pathlib import Path

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
FULL_DISK_BYTES = 100e6  # bytes; a disk with more than that is not the full one


class UserError(Exception):
    """Something the user can fix: a bad override, a broken file, a missing folder.

    The message names the file or setting and the fix. Runners print it as one line and exit with code 2;
    every other exception keeps its traceback and exits with code 1.
    """


class DiskFull(UserError):
    """A disk has no room for a file."""


def first_line(error: BaseException) -> str:
    """The first line of an exception's message; its kind when it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def one_line(error: BaseException) -> str:
    """Message of an exception on one line."""
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip()) or type(error).__name__


def printable(text: str) -> str:
    r"""A text in which characters that end a line, steer a terminal or cannot be encoded are escaped.

    >>> print(printable("r0\n\x1b[2J.jpg 영수증 \udc80"))
    r0\n\x1b[2J.jpg 영수증 \udc80
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def disk_full(folder: str | Path, name: str = "", needed: int | None = None) -> DiskFull:
    """The error of a file that a full disk did not take.

    Args:
        folder: on that disk.
        name: of the file; empty where it is not known.
        needed: its size in bytes.
    """
    what = f"{name} needs {_size(needed)}, " if needed is not None else ""
    return DiskFull(
        f"no space left in {folder}: {what}{_size(_free(folder))} are free; make room, or name a folder on another disk"
    )


def _size(number: int) -> str:
    return f"{number / 1e6:.1f} MB" if number >= 1e5 else f"{number / 1e3:.1f} kB"


def _free(folder: str | Path) -> int:
    """Free bytes on a folder's disk, or on that of the nearest folder above it that exists."""
    folder = Path(folder).absolute()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _disk_full_somewhere(error: OSError, folder: Path | None) -> DiskFull:
    """Explain a failed write whose file is unknown: name the fullest disk that a job writes to."""
    file = error.filename2 or error.filename
    if isinstance(file, (str, bytes)):
        return disk_full(Path(os.fsdecode(file)).parent)
    folders = [Path.cwd(), *([folder] if folder else [])]
    with contextlib.suppress(OSError):
        folders.append(Path(tempfile.gettempdir()))
    fullest = min(folders, key=_free)
    if _free(fullest) < FULL_DISK_BYTES:
        return disk_full(fullest)
    return DiskFull("no space left where the run folder (paths.output) or TMPDIR lies: make room, or name another disk")


def _killed_worker(what: str) -> UserError:
    if what.endswith("Terminated"):
        return UserError(f"{what}, from outside; resume=<run folder> goes on from the last checkpoint")
    return UserError(
        f"{what}: for want of memory? Fewer data.num_workers or a smaller data.batch_size need less; "
        "resume=<run folder> goes on from the last checkpoint"
    )


def _while_fetching(error: BaseException) -> bool:
    """Whether an error came up where a process takes shared memory over from another."""
    frames = traceback.extract_tb(error.__traceback__)
    return any(Path(frame.filename).name == "resource_sharer.py" for frame in frames)


def _from_worker(error: UserError) -> UserError:
    """Unwrap an error that torch raised again from a loader worker with a traceback as its text."""
    text = str(error)
    if not text.startswith("Caught "):
        return error
    return UserError(text.strip().splitlines()[-1].partition(": ")[2])


def user_error(error: BaseException | None, folder: Path | None = None) -> UserError | None:
    """The user error that ``error`` is or comes from.

    A constructor that rejects its arguments, a full disk, a full GPU and a loader worker that was killed count as one.

    Args:
        error: or None.
        folder: where the job writes, beside the current folder and ``TMPDIR``.
    """
    cause = error
    while cause is not None:
        if isinstance(cause, UserError):
            return _from_worker(cause)
        if type(cause).__name__ == "MisconfigurationException":  # Lightning's word for settings that do not go together
            return UserError(one_line(cause))
        if isinstance(cause, TypeError) and "argument" in str(cause) and "__init__()" in str(cause):
            return UserError(f"{first_line(error or cause)}: {cause}")
        if isinstance(cause, OSError) and cause.errno in NO_SPACE:
            return _disk_full_somewhere(cause, folder)
        if type(cause).__name__ == "OutOfMemoryError":  # torch's, of a job that does not say what needed the memory
            return UserError(f"out of memory on the GPU, smaller batches need less ({first_line(cause)})")
        if isinstance(cause, RuntimeError) and str(cause).startswith("DataLoader worker (pid"):
            if "shared memory" in str(cause) or "Bus error" in str(cause):
                return UserError(
                    f"{first_line(cause).rstrip(' .')}: /dev/shm is too small for the batches of loader workers: "
                    "docker run --shm-size=1g, or data.num_workers=0"
                )
            return _killed_worker(first_line(cause).rstrip(" ."))
        if isinstance(cause, (EOFError, OSError)) and _while_fetching(cause):
            return _killed_worker("a DataLoader worker ended while its batch was fetched")
        cause = cause.__cause__
    return None
