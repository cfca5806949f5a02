"""Lock files: one process at a time, released however it ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

try:
    import fcntl
except ImportError:  # Windows: no lock
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def lock_file(path: Path, wait: bool = True, shared: bool = False) -> Iterator[TextIO]:
    """Hold the lock of a file inside; the file is made where it is not there.

    The lock is the process's own (POSIX): children do not inherit it, and the system releases it however the process
    ends. On a file system without locks there is none.

    Args:
        path: of the file.
        wait: until another process releases it.
        shared: let others that also share it hold it at the same time.

    Yields:
        The open file, whose text is free for words on who holds it.

    Raises:
        BlockingIOError: another process holds it, and ``wait`` is false.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        if fcntl is not None:
            try:
                fcntl.lockf(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise
            except OSError:  # a file system without locks
                pass
        yield file
