"""The ending of a job, in one place for its exit code, its record and its message."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from ocr.errors import first_line, user_error


@dataclass(frozen=True)
class Ending:
    """How a job ended.

    Attributes:
        exit_code: of the process: 0, 1 for a bug, 2 for what the user can fix, 128 and the number of a signal.
        tag: one of :data:`TAGS`.
        reason: one line.
    """

    exit_code: int
    tag: str
    reason: str


abandoned = threading.Event()  # an upload was given up, and a thread may still wait for the server
TAGS = ("finished", "pruned", "failed", "interrupted", "terminated")


class Terminated(SystemExit):
    """SIGTERM or SIGHUP arrived; the exit code is 128 and its number."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)


class StepSignals:
    """Termination signals of a training: between `hold` and `release` the first one waits, in ``arrived``."""

    arrived: int | None = None
    _held = False

    def hold(self) -> None:
        """Hold back the first signal from here on."""
        self._held = True

    def wait(self, signum: int) -> bool:
        """Whether a signal that has come now waits."""
        if not self._held or self.arrived is not None:
            return False
        self.arrived = signum
        return True

    def let_through(self) -> None:
        """Hold no more signals; one that has waited goes on waiting."""
        self._held = False

    def drop(self) -> int | None:
        """Stop holding signals, and return the one that was held."""
        # no call in between: Python could deliver a signal there, which would be lost
        arrived, self._held, self.arrived = self.arrived, False, None
        return arrived

    def release(self, other: int | None = None) -> None:
        """Stop holding signals.

        Raises:
            Terminated: a signal has waited, or there is ``other``, which came to another process.
        """
        if (signum := self.drop() or other) is not None:
            raise Terminated(signum)


STEP_SIGNALS = StepSignals()


def ending_of(error: BaseException | None, folder: Path | None = None) -> Ending:
    """The ending that an exception stands for, or that of a job without one; ``folder`` is where the job writes.

    >>> ending_of(None)
    Ending(exit_code=0, tag='finished', reason='finished')
    >>> ending_of(KeyError("x")).exit_code, ending_of(KeyboardInterrupt()).tag, ending_of(Terminated(15)).exit_code
    (1, 'interrupted', 143)
    """
    if error is None:
        return Ending(0, "finished", "finished")
    error = _termination_behind(error)
    if isinstance(error, Terminated) or type(error).__name__ == "SIGTERMException":  # the latter is Lightning's
        code = error.code if isinstance(error, Terminated) and isinstance(error.code, int) else 143
        return Ending(code, "terminated", f"terminated by {signal.Signals(code - 128).name}")
    from_ctrl_c = isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt)  # by Lightning
    if isinstance(error, KeyboardInterrupt) or from_ctrl_c:
        return Ending(130, "interrupted", "interrupted by Ctrl-C")
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        return Ending(code, "failed" if code else "finished", f"exit with code {code}")
    if fixable := user_error(error, folder):
        return Ending(2, "failed", first_line(fixable))
    return Ending(1, "failed", f"{type(error).__name__}: {first_line(error)}")


def _termination_behind(error: BaseException) -> BaseException:
    """The signal that a failure followed from: a scheduler ends loader workers, too, and torch reports that."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, Terminated):
            return cause
        cause = cause.__context__
    return error


@contextlib.contextmanager
def signals_raise() -> Iterator[None]:
    """SIGTERM, SIGHUP and SIGUSR2 raise :class:`Terminated` inside, so that the job is ended in good order.

    Within a training step the first one waits for its end, see :class:`StepSignals`. One more, and a Ctrl-C while the
    end is under way, ends the process as usual. A signal that is ignored, as ``nohup`` does with SIGHUP, stays ignored.
    SIGUSR2 is what submitit has Slurm send before it takes a machine back; where submitit itself hears it, that stays.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handler(signum: int, frame: FrameType | None) -> None:
        if STEP_SIGNALS.wait(signum):
            return
        signal.signal(signum, signal.SIG_DFL)
        raise Terminated(signum)

    heard = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    if hasattr(signal, "SIGUSR2") and signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL:
        heard.append(signal.SIGUSR2)
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)
