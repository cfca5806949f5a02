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


def settle_summary(run: wandb.Run) -> None:
    """One form for the summary of every ended run: ``<name>`` is a number, ``best/<name>`` its best value.

    While a run goes on, W&B keeps ``{"max": ..., "last": ...}`` under the name, and the newest value of every key.
    Those of :data:`HISTORY_ONLY` go: of two patterns of ``define_metric`` that fit a name, W&B takes either.
    """
    summary = dict(run.summary)
    for key in summary:
        if key.startswith(HISTORY_ONLY):
            del run.summary[key]
    for name, better in BEST.items():
        kept: Any = summary.get(name)
        if hasattr(kept, "keys"):
            values = dict(kept)
            for key, value in ((f"best/{name}", values.get(better)), (name, values.get("last"))):
                if _finite(value) is not None:
                    run.summary[key] = value


def _finite(value: Any) -> float | None:
    """The value as a finite number, None where it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


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
    finite = {key: number for key, value in metrics.items() if (number := _finite(value)) is not None}
    settle_summary(run)
    run.summary.update(finite)
    if left_out := sorted(metrics.keys() - finite.keys()):
        run.summary["left_out"] = left_out
        log.warning("W&B: not finite and left out of the summary: %s", ", ".join(left_out))
    score = next((finite[key] for key in metric_keys if key in finite), None)
    run.name = finished_name(run.name, metric_label, score)
    run.summary["final_run_name"] = run.name


def name_unfinished(run: wandb.Run) -> None:
    """A run that was not finalized gets the best score that it reached in its name."""
    if PLACEHOLDER in (run.name or PLACEHOLDER):
        run.name = finished_name(run.name, "hmean", _finite(run.summary.get("best/val/hmean")))
        run.summary["final_run_name"] = run.name
