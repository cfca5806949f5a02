"""A worker of a sweep: trial after trial, until the study has all of them."""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.utils import JobStatus
from hydra.plugins.launcher import Launcher

from ocr.jobs.command_line.overrides import text_of
from ocr.jobs.sweep.settings import Objective
from ocr.sweeps.ranking import METRICS, read_job
from ocr.sweeps.study import SharedStudy
from ocr.training.callbacks.pruning import TRIAL, Pruning

if TYPE_CHECKING:
    from optuna.trial import Trial

log = logging.getLogger(__name__)
PRUNING = f"{Pruning.__module__}.{Pruning.__qualname__}"


@dataclass(frozen=True)
class Worker:
    """One process of a sweep.

    Attributes:
        shared, folder, objective: of the sweep.
        launcher: Hydra's, which runs a job in this process.
        overrides: that all jobs have.
        seeds: trainings per trial.
        prune: whether trials report to the pruner.
    """

    shared: SharedStudy
    launcher: Launcher
    folder: Path
    overrides: Sequence[str]
    objective: Objective
    seeds: int
    prune: bool

    def run(self) -> None:
        """Work until there is no trial left to begin or to go on with."""
        while True:
            with self.shared.claim() as trial:
                if trial is None:
                    return
                self._run_trial(trial)

    def _run_trial(self, trial: Trial) -> None:
        from optuna.trial import TrialState

        started = time.perf_counter()
        params = [f"{key}={value}" for key, value in trial.params.items()]
        scores: list[float] = []
        state = "finished"
        for k in range(self.seeds):
            state, score = self._run_job(trial, params, k)
            if state != "finished":
                break
            scores.append(score)
        if state == "finished":
            mean = statistics.fmean(scores)
            self.shared.study.tell(trial.number, mean)
            spread = f" +- {statistics.stdev(scores):.4f}" if len(scores) > 1 else ""
            words = f"{self.objective.metric} {mean:.4f}{spread}"
        else:
            self.shared.study.tell(trial.number, state=TrialState.PRUNED if state == "pruned" else TrialState.FAIL)
            words = state
        ended = sum(frozen.state.is_finished() for frozen in self.shared.trials())
        log.info("trial %d: %s (%s), %.0f s; %d of %d trials are done", trial.number, words, ", ".join(params),
                 time.perf_counter() - started, ended, self.shared.n_trials)  # fmt: skip

    def _run_job(self, trial: Trial, params: Sequence[str], k: int) -> tuple[str, float]:
        """The state in which a training of a trial ended, and its score if that is ``finished``."""
        name = f"{trial.number}" if self.seeds == 1 else f"{trial.number}_seed_{self.objective.seed + k}"
        folder = self.folder / name
        if (ended := self._ended(folder)) is not None:
            return ended
        own = [*params, f"seed={self.objective.seed + k}"] if self.seeds > 1 else list(params)
        if self.prune:
            own += [f"++callbacks.pruning._target_={PRUNING}", f"++callbacks.pruning.monitor={self.objective.metric}"]
        own += [f"hydra.sweep.dir={text_of(str(self.folder))}", f"hydra.sweep.subdir={text_of(name)}"]
        token = TRIAL.set(trial if k == 0 else None)
        try:
            [returned] = self.launcher.launch([[*self.overrides, *own]], trial.number)
        finally:
            TRIAL.reset(token)
        failed = "failed", math.nan
        return failed if returned.status is JobStatus.FAILED else self._ended(folder) or failed

    def _ended(self, folder: Path) -> tuple[str, float] | None:
        """State and score of a job that has ended; None for one to begin or to resume."""
        job = read_job(folder / METRICS)
        if job is None or job.state not in ("finished", "pruned"):
            return None
        score = job.metrics.get(self.objective.metric, math.nan)
        return ("failed" if job.state == "finished" and math.isnan(score) else job.state), score
