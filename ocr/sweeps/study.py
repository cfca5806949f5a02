"""A study shared by workers: each trial belongs to one process at a time, and a kill releases it.

Optuna keeps what was tried and chooses what comes next. What it leaves to its callers is here: trials whose process
was killed are gone on with under their own number, and no more trials are begun than the sweep has.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocr.errors import UserError, first_line
from ocr.utils.locks import lock_file

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.storages.journal import JournalFileOpenLock
    from optuna.trial import FrozenTrial, Trial

JOURNAL = "study.log"  # of a sweep without a database, in its folder
CLAIMS = ".claims"  # lock files in the sweep's folder: of each trial, and of the choice of the next


def open_storage(address: str | None, folder: Path) -> BaseStorage:
    """The storage of a study.

    Args:
        address: URL of a database, as SQLAlchemy takes it; None for a journal in the folder.
        folder: of the sweep.

    Raises:
        UserError: the database cannot be reached, its driver is not installed, or the journal is damaged.
    """
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    if address is None:
        path = folder / JOURNAL
        lock = JournalFileOpenLock(str(path))
        _drop_torn_line(path, lock)
        with _damage_named():
            return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
    try:
        return RDBStorage(address)
    except ImportError as error:
        driver = error.__cause__ or error
        raise UserError(
            f"sweep.storage: {driver}: install the database's driver, for PostgreSQL pip install 'psycopg[binary]'"
        ) from error
    except Exception as error:  # SQLAlchemy and its drivers raise as many kinds
        raise UserError(f"sweep.storage: {first_line(error)}") from error


@contextlib.contextmanager
def _damage_named() -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:  # of a line that is no record
        raise UserError(f"the study is damaged ({JOURNAL}, or the database): {first_line(error)}") from error


def _drop_torn_line(path: Path, lock: JournalFileOpenLock) -> None:
    """Drop a last line that a full disk or a power cut has torn: Optuna would read no further."""
    lock.acquire()  # the one under which Optuna writes: no other worker is in the middle of a line
    try:
        content = path.read_bytes() if path.is_file() else b""
        if content and not content.endswith(b"\n"):
            os.truncate(path, content.rfind(b"\n") + 1)
    finally:
        lock.release()


class SharedStudy:
    """The trials of a sweep.

    Args:
        study: Optuna's; see :func:`open_study`.
        folder: of the sweep, which all workers see.
        space: what a trial chooses from, by setting.
        n_trials: how many there may be in all.
        sampler: makes the sampler of a trial from its number: one that was seeded once would draw the same again
            after a resume.
        grid: what each trial gets, by number, in place of what the sampler chooses; empty for none.
    """

    def __init__(
        self, study: Study, folder: Path, space: Mapping[str, BaseDistribution], n_trials: int,
        sampler: Callable[[int], BaseSampler], grid: Sequence[Mapping[str, Any]] = (),
    ) -> None:  # fmt: skip
        self.study, self.folder, self.space, self.n_trials, self.sampler = study, folder, space, n_trials, sampler
        self.grid = grid

    @contextlib.contextmanager
    def claim(self) -> Iterator[Trial | None]:
        """Claim the next trial for this process: one that a killed worker left, or a new one; None at the end."""
        with contextlib.ExitStack() as held:
            with lock_file(self._lock("next")):
                trial = self._left_behind(held) or self._new(held)
            yield trial

    def trials(self) -> list[FrozenTrial]:
        """All trials so far."""
        return self.study.get_trials(deepcopy=False)

    def _lock(self, name: str) -> Path:
        return self.folder / CLAIMS / name

    def _left_behind(self, held: contextlib.ExitStack) -> Trial | None:
        from optuna.trial import Trial

        for frozen in self.trials():
            lock = self._lock(str(frozen.number))
            if frozen.state.name != "RUNNING" or not lock.exists():  # no lock: of a worker that sees another disk
                continue
            with contextlib.suppress(BlockingIOError):
                held.enter_context(lock_file(lock, wait=False))
                trial = Trial(self.study, frozen._trial_id)
                self._complete(trial)
                return trial
        return None

    def _complete(self, trial: Trial) -> None:
        """Choose what a kill in the middle of the choice has left open."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        self.study.sampler = self.sampler(trial.number)
        for key in self.space.keys() - trial.params.keys():
            choice = self.space[key]
            if isinstance(choice, CategoricalDistribution):
                trial.suggest_categorical(key, choice.choices)
            elif isinstance(choice, FloatDistribution):
                trial.suggest_float(key, choice.low, choice.high, step=choice.step, log=choice.log)
            elif isinstance(choice, IntDistribution):
                trial.suggest_int(key, choice.low, choice.high, step=choice.step, log=choice.log)

    def _new(self, held: contextlib.ExitStack) -> Trial | None:
        from optuna.trial import TrialState

        states = [trial.state for trial in self.trials()]
        number = len(states) - states.count(TrialState.WAITING)
        if number >= self.n_trials:
            return None
        # the lock before the trial: what a kill leaves without one would count as another disk's
        held.enter_context(lock_file(self._lock(str(number))))
        if self.grid and TrialState.WAITING not in states:  # else a kill came between these lines and those below
            self.study.enqueue_trial(dict(self.grid[number]))
        self.study.sampler = self.sampler(number)
        trial = self.study.ask(dict(self.space))
        if trial.number >= self.n_trials:  # another machine without this disk was faster
            self.study.tell(trial, state=TrialState.FAIL)
            return None
        if trial.number != number:
            held.enter_context(lock_file(self._lock(str(trial.number))))
        return trial


def open_study(storage: BaseStorage, name: str, maximize: bool, pruner: BasePruner | None) -> Study:
    """The study of this name, made where it is not there; without a pruner no trial is pruned.

    Raises:
        UserError: the storage is damaged.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = pruner or optuna.pruners.NopPruner()
    with _damage_named():
        return optuna.create_study(
            storage=storage, study_name=name, direction="maximize" if maximize else "minimize", pruner=pruner,
            load_if_exists=True,
        )  # fmt: skip
