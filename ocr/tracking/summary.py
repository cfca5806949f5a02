"""Metrics of a run: names, direction, and their form in the summary at the end."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import wandb

from ocr.tracking.naming import PLACEHOLDER, finished_name

log = logging.getLogger(__name__)

STEP = "trainer/global_step"
HISTORY_ONLY = "problematic_batch"  # keys that begin so tell of one validation pass, not of the run
BEST: dict[str, str] = {  # names as in docs/wandb.md; the rest keeps its last value
    "train/loss": "min",
    "train/loss_bce": "min",
    "train/loss_l1": "min",
    "train/loss_dice": "min",
    "train/images_per_second": "max",
    "val/hmean": "max",
    "val/precision": "max",
    "val/recall": "max",
}


def log_table(run: wandb.Run, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Log a table as the file that it is.

    ``run.log`` of a table object would also make an artifact, which waits for the server and is staged outside the
    run's folder.
    """
    table = wandb.Table(columns=[*columns], data=[*rows])
    table.bind_to_run(run, key, 0)
    run.log({key: table.to_json(run)})


def define_metrics(run: wandb.Run) -> None:
    """Plot all metrics over ``trainer/global_step``; for those in :data:`BEST` keep the best value beside the last."""
    run.define_metric(STEP)
    run.define_metric("*", step_metric=STEP, step_sync=True)
    for name, better in BEST.items():
        run.define_metric(name, step_metric=STEP, step_sync=True, summary=f"{better},last")


def settle_summary(run: wandb.Run, metrics: Mapping[str, float] | None = None) -> None:
    """One form for the summary of every ended run: ``<name>`` is a number, ``best/<name>`` its best value.

    While a run goes on, W&B keeps ``{"max": ..., "last": ...}`` under the name, and the newest value of every key.
    Those of :data:`HISTORY_ONLY` go: W&B has no ``summary="none"`` for pictures.

    Args:
        run: in progress.
        metrics: final values that win over the last ones.
    """
    summary = _fetch(run)
    for key in summary:
        if key.startswith(HISTORY_ONLY):
            del run.summary[key]
    for name, better in BEST.items():
        kept = summary.get(name)
        if isinstance(kept, Mapping):
            if _finite(kept.get(better)):
                run.summary[f"best/{name}"] = kept[better]
            final = (metrics or {}).get(name, kept.get("last"))
            if _finite(final):
                run.summary[name] = final


def _fetch(run: wandb.Run) -> dict[str, Any]:
    return {k: dict(v) if hasattr(v, "keys") else v for k, v in dict(run.summary).items()}


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def finalize_run(
    metrics: Mapping[str, float],
    metric_label: str = "hmean",
    metric_keys: tuple[str, ...] = ("test/hmean", "val/hmean"),
) -> None:
    """Write the summary and add the score to the name of the run in progress; do nothing without a run.

    Calling it again gives the same; it needs no network.

    Args:
        metrics: names to values; what is not finite is left out and named in ``summary["left_out"]``.
        metric_label: stands before the score in the name.
        metric_keys: the first of these among the finite metrics is the score.
    """
    run = wandb.run
    if run is None:
        return
    finite, left_out = {}, []
    for key, value in metrics.items():
        number = _to_float(value)
        if number is not None and math.isfinite(number):
            finite[key] = number
        else:
            left_out.append(key)
    settle_summary(run, finite)
    for key, number in finite.items():
        run.summary[key] = number
    if left_out:
        run.summary["left_out"] = sorted(left_out)
        log.warning("W&B: not finite and left out of the summary: %s", ", ".join(sorted(left_out)))
    score = next((finite[key] for key in metric_keys if key in finite), None)
    run.name = finished_name(run.name, metric_label, score)
    run.summary["final_run_name"] = run.name


def name_unfinished(run: wandb.Run, metric_key: str = "val/hmean", metric_label: str = "hmean") -> None:
    """A run that was not finalized gets the best score that it reached in its name."""
    if PLACEHOLDER in (run.name or PLACEHOLDER):
        best = _fetch(run).get(f"best/{metric_key}")
        run.name = finished_name(run.name, metric_label, best if _finite(best) else None)
        run.summary["final_run_name"] = run.name


def _to_float(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
