"""One process per run folder: a lock that a kill releases."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from ocr.errors import UserError
from ocr.utils.locks import lock_file

LOCK = ".lock"


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
