"""Jobs of a sweep, read back from their folders, and the ranking of what they tried."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

METRICS, FAILURE = "metrics.json", "failure.json"  # of a job, in its folder: how it ended
SAME = 1e-12  # a difference that is none
SIGNIFICANCE = 0.05  # p-value below which a difference between two rows is called one


@dataclass(frozen=True)
class SweepJob:
    """A job that ended.

    Attributes:
        folder: of its run.
        number: of its trial; seeds of one trial share it.
        seed: of the training.
        varied: settings that the sweep varies, with the values of this job, as they stood on the command line.
        overrides: all of its command line.
        state: ``finished``, ``pruned``, ``interrupted`` or ``failed``.
        seeds: trainings that its trial has in all.
        metrics: final ones by name.
        metric: the one that the sweep ranks by.
        maximize: whether more of it is better.
        reason: of a failure, one line.
        threads: of torch, which the last digits of a training on a CPU depend on.
    """

    folder: Path
    number: int
    seed: int | None
    varied: Mapping[str, str]
    overrides: Sequence[str]
    state: str
    seeds: int
    metrics: Mapping[str, float]
    metric: str | None = None
    maximize: bool = True
    reason: str | None = None
    threads: int | None = None


@dataclass(frozen=True)
class Row:
    """A trial: the same settings, trained once per seed.

    Attributes:
        number: of the trial.
        varied: its settings.
        jobs: its trainings, by seed.
        state: ``finished`` when all of them are; else ``running``, ``pruned`` or ``failed``.
        scores: of the finished ones, by seed.
    """

    number: int
    varied: Mapping[str, str]
    jobs: Sequence[SweepJob]
    state: str
    scores: Mapping[int | None, float] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Mean over seeds; NaN without a score."""
        return statistics.fmean(self.scores.values()) if self.scores else math.nan

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds; None for less than two."""
        return statistics.stdev(self.scores.values()) if len(self.scores) > 1 else None


def read_jobs(folder: Path) -> list[SweepJob]:
    """Jobs of a sweep that have ended, from ``metrics.json`` and ``failure.json`` alone, by number and seed."""
    paths = [path for name in (FAILURE, METRICS) for path in folder.glob(f"*/{name}")]
    jobs = {job.folder: job for path in paths if (job := read_job(path)) is not None}  # metrics over a failure before
    one = {(job.number, job.seed): job for job in sorted(jobs.values(), key=lambda job: job.folder.name, reverse=True)}
    return sorted(one.values(), key=lambda job: (job.number, job.seed or 0))  # of a copied folder the original


def read_job(path: Path) -> SweepJob | None:
    """Read a job from ``metrics.json`` or ``failure.json``; None where it is missing, cut, or of no sweep."""
    try:
        if not path.is_file():  # a named pipe would be waited for
            return None
        content = json.loads(path.read_text(encoding="utf-8"))
        sweep = content.get("sweep")
        typed = isinstance(sweep, dict) and isinstance(content.get("seed"), int | None)
        if not typed or not isinstance(sweep["metric"], str | None) or not isinstance(content["state"], str):
            return None
        numbers = {k: float(v) for k, v in content.items() if "/" in k and isinstance(v, int | float)}
        return SweepJob(
            folder=path.parent,
            number=int(sweep["number"]),
            seed=content.get("seed"),
            varied=dict(sweep["varied"]),
            overrides=list(content["overrides"]),
            state=content["state"],
            seeds=int(sweep.get("seeds", 1)),
            metrics={key: number for key, number in numbers.items() if math.isfinite(number)},
            metric=sweep["metric"],
            maximize=bool(sweep["maximize"]),
            reason=content.get("reason"),
            threads=content.get("threads"),
        )
    except (OSError, ValueError, KeyError, AttributeError, TypeError, OverflowError, RecursionError):
        return None


def rank(jobs: Sequence[SweepJob], metric: str, maximize: bool) -> list[Row]:
    """Trials, the best mean first; then those whose seeds are not all done, that were pruned, that failed."""
    rows = []
    for number in dict.fromkeys(job.number for job in jobs):
        own = [job for job in jobs if job.number == number]
        states = [job.state for job in own]
        state = next((s for s in ("failed", "pruned") if s in states), "finished")
        scores = {job.seed: job.metrics[metric] for job in own if job.state == "finished" and metric in job.metrics}
        if state == "finished" and len(scores) < len(own):
            state = "failed"  # it ended, and its figure was not measured
        if state == "finished" and len(own) < own[0].seeds:
            state = "running"
        rows.append(Row(number, own[0].varied, own, state, scores))
    sign = -1 if maximize else 1
    order = ("finished", "running", "pruned", "failed")
    return sorted(rows, key=lambda row: (order.index(row.state), sign * row.mean if row.scores else 0, row.number))


@dataclass(frozen=True)
class Comparison:
    """A row against the best one.

    Attributes:
        test: ``paired t`` where both have the same seeds, else ``Welch's t``.
        p: two-sided p-value.
    """

    test: str
    p: float

    @property
    def differs(self) -> bool:
        """Whether the difference is more than that of seeds, at :data:`SIGNIFICANCE`."""
        return self.p < SIGNIFICANCE


def compare(best: Row, row: Row) -> Comparison | None:
    """Test whether two rows differ over their seeds; None where one of them has a single seed.

    Welch's test has the degrees of freedom of Welch 1947; p-values are not corrected for the number of rows.
    """
    a, b = np.array([*best.scores.values()]), np.array([*row.scores.values()])
    if len(a) < 2 or len(b) < 2:
        return None
    if best.scores.keys() == row.scores.keys():
        differences = np.array([best.scores[seed] - row.scores[seed] for seed in best.scores])
        error, freedom = differences.var(ddof=1) / len(differences), len(differences) - 1.0
        return Comparison("paired t", p_value(differences.mean(), error, freedom))
    errors = np.array([a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)])
    total = errors.sum()
    freedom = total**2 / (errors**2 / [len(a) - 1, len(b) - 1]).sum() if total > 0 else 1.0
    return Comparison("Welch's t", p_value(a.mean() - b.mean(), total, freedom))


def verdict(row: Row, best: Row, comparison: Comparison | None) -> str:
    """A row beside the best one, in words."""
    if row.state != "finished":
        return row.state
    if row is best:
        return "best" if len(row.scores) > 1 else ""
    if comparison is None:
        return ""
    words = "behind the best" if comparison.differs else "cannot be told apart from the best"
    return f"{words} (p={comparison.p:.3f})"


def p_value(difference: float, variance: float, freedom: float) -> float:
    """Two-sided p-value of a difference with an estimated variance, by Student's t, integrated over its density.

    scipy has it, too; but where scipy is installed, torchmetrics takes a second longer to import in every job.

    Args:
        difference, variance: of two means, and its estimated variance.
        freedom: degrees of freedom of the estimate.
    """
    if variance < SAME**2:
        return 1.0 if abs(difference) < SAME else 0.0
    # with t = tan(angle) * sqrt(freedom) the density is cos(angle) ** (freedom - 1), over a finite range
    angle = math.atan(abs(difference) / math.sqrt(variance * freedom))
    tail, whole = (np.linspace(start, math.pi / 2, 20_001) for start in (angle, 0.0))
    return float(_integral(tail, freedom) / _integral(whole, freedom))


def _integral(angles: np.ndarray, freedom: float) -> float:
    return float(np.trapezoid(np.maximum(np.cos(angles), 0.0) ** (freedom - 1), angles))


def settings_of(rows: Sequence[Row]) -> list[str]:
    """Settings that differ between rows, in the order in which they first stand."""
    return list(dict.fromkeys(key for row in rows for key in row.varied))


def columns_of(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Values of each setting in the order of the rows: floats where all are numbers, else their texts."""
    columns: dict[str, list[Any]] = {}
    for key in settings_of(rows):
        texts = [row.varied.get(key, "") for row in rows]
        try:
            numbers = [float(text) for text in texts]
        except ValueError:
            numbers = []
        columns[key] = numbers if numbers and all(map(math.isfinite, numbers)) else texts
    return columns


def importance(rows: Sequence[Row], maximize: bool) -> dict[str, float]:
    """Share of the variance of the score that each setting explains: fANOVA (Hutter et al. 2014), by Optuna.

    Returns:
        By setting; empty for fewer than four rows, all finished, or where Optuna or scikit-learn is not installed.
    """
    columns = {key: values for key, values in columns_of(rows).items() if len(set(values)) > 1}
    if len(rows) < 4 or not columns or len({row.mean for row in rows}) < 2:
        return {}
    try:
        import optuna
        from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
        from optuna.importance import FanovaImportanceEvaluator, get_param_importances

        from ocr.drawing.sweep_plots import is_logarithmic  # not for who only ranks: it imports OpenCV

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        spaces: dict[str, BaseDistribution] = {
            key: FloatDistribution(min(values), max(values), log=is_logarithmic(values))
            if isinstance(values[0], float)
            else CategoricalDistribution(sorted(set(values)))
            for key, values in columns.items()
        }
        study = optuna.create_study(direction="maximize" if maximize else "minimize")
        for k, row in enumerate(rows):
            params = {key: values[k] for key, values in columns.items()}
            study.add_trial(optuna.create_trial(params=params, distributions=spaces, value=row.mean))
        return dict(get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0)))
    except ImportError:
        return {}
