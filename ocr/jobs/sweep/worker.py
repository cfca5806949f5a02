"""A worker of a sweep: trial after trial, until the study has all of them."""

from __future__ import annotations

import json
import logging
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobStatus
from hydra.plugins.launcher import Launcher

from ocr.jobs.command_line.overrides import text_of
from ocr.jobs.sweep.settings import Objective
from ocr.jobs.sweep.space import override_text
from ocr.sweeps.ranking import METRICS
from ocr.sweeps.study import SharedStudy
from ocr.training.callbacks.pruning import TRIAL

if TYPE_CHECKING:
    from optuna.trial import Trial

log = logging.getLogger(__name__)
PRUNING = "ocr.training.callbacks.pruning.Pruning"


@dataclass(frozen=True)
class Outcome:
    """The end of one training of a trial.

    Attributes:
        state: ``finished``, ``pruned`` or ``failed``.
        score: the metric; NaN where it was not measured.
    """

    state: str
    score: float = math.nan


@dataclass(frozen=True)
class Worker:
    """One process of a sweep.

    Attributes:
        shared: the study.
        launcher: Hydra's, which runs a job in this process.
        folder: of the sweep.
        overrides: that all jobs have.
        objective: what is compared.
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
        params = [override_text(key, value) for key, value in trial.params.items()]
        scores: list[float] = []
        state = "finished"
        for k in range(self.seeds):
            outcome = self._run_job(trial, params, k)
            if (state := outcome.state) != "finished":
                break
            scores.append(outcome.score)
        if state == "finished":
            self.shared.study.tell(trial.number, statistics.fmean(scores))
            spread = f" +- {statistics.stdev(scores):.4f}" if len(scores) > 1 else ""
            words = f"{self.objective.metric} {statistics.fmean(scores):.4f}{spread}"
        else:
            self.shared.study.tell(trial.number, state=TrialState.PRUNED if state == "pruned" else TrialState.FAIL)
            words = state
        ended = sum(frozen.state.is_finished() for frozen in self.shared.trials())
        log.info("trial %d: %s (%s), %.0f s; %d of %d trials are done", trial.number, words, ", ".join(params),
                 time.perf_counter() - started, ended, self.shared.n_trials)  # fmt: skip

    def _run_job(self, trial: Trial, params: Sequence[str], k: int) -> Outcome:
        name = f"{trial.number}" if self.seeds == 1 else f"{trial.number}_seed_{self.objective.seed + k}"
        folder = self.folder / name
        if (outcome := outcome_of(folder, self.objective.metric)) is not None:
            return outcome
        own = [*params, f"seed={self.objective.seed + k}"] if self.seeds > 1 else list(params)
        if self.prune:
            own += [f"++callbacks.pruning._target_={PRUNING}", f"++callbacks.pruning.monitor={self.objective.metric}"]
        hydra = {"sweep.dir": str(self.folder), "sweep.subdir": name}
        own += [f"hydra.{key}={text_of(value)}" for key, value in hydra.items()]
        token = TRIAL.set(trial if k == 0 else None)
        try:
            [returned] = self.launcher.launch([[*self.overrides, *own]], trial.number)
        finally:
            TRIAL.reset(token)
        if returned.status is JobStatus.FAILED:
            return Outcome("failed")
        return outcome_of(folder, self.objective.metric) or Outcome("failed")


def outcome_of(folder: Path, metric: str) -> Outcome | None:
    """The end of a job, from its ``metrics.json``; None where that is missing, unfinished or cannot be read."""
    try:
        content: Mapping[str, Any] = json.loads((folder / METRICS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    state, score = content.get("state"), content.get(metric)
    if state == "pruned":
        return Outcome("pruned")
    if state != "finished":
        return None
    return Outcome("finished", float(score)) if isinstance(score, int | float) else Outcome("failed")
