"""A worker process per implementation, so that their process-wide settings do not meet."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


class WorkerProcess:
    """Prepares a function once in a new process and calls it there; close it at the end.

    Args:
        prepare: a function of a module, called in the new process; gives the work, a function without arguments.
        args: plain values for it.

    Raises:
        RuntimeError: the preparation or the work failed, with its traceback.
    """

    def __init__(self, prepare: Callable[..., Callable[[], Any]], *args: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, prepare, args))
        self._process.start()
        theirs.close()
        self._exchange()

    def __call__(self) -> Any:
        return self._exchange("work")

    def _exchange(self, request: str = "") -> Any:
        try:
            if request:
                self._pipe.send(request)
            failed, result = self._pipe.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            raise RuntimeError(f"the process ended with exit code {self._process.exitcode}") from None
        if failed:
            raise RuntimeError(result)
        return result

    def close(self) -> None:
        """End the process, which waits for work."""
        self._pipe.close()
        self._process.join()


def _serve(pipe: Connection, prepare: Callable[..., Callable[[], Any]], args: tuple[Any, ...]) -> None:
    try:
        work = prepare(*args)
        pipe.send((False, None))
        while True:
            try:
                pipe.recv()
            except EOFError:
                return
            pipe.send((False, work()))
    except Exception:  # whatever it is, the caller raises it, with this traceback
        pipe.send((True, traceback.format_exc()))
