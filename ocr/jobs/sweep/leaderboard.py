"""The ranking of a sweep: a table, ``sweep.csv``, pictures, and one W&B run of its group."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import wandb
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ocr.drawing.sweep_plots import plot_parallel, plot_settings
from ocr.errors import UserError
from ocr.jobs.command_line.overrides import key_of
from ocr.sweeps.ranking import (
    SIGNIFICANCE,
    Comparison,
    Row,
    columns_of,
    compare,
    importance,
    rank,
    read_jobs,
    settings_of,
    verdict,
)
from ocr.tracking.job import Job
from ocr.tracking.run import tracked_run
from ocr.tracking.schema import LoggerSettings
from ocr.tracking.secret_patterns import HIDDEN
from ocr.tracking.start import RECORD, read_record
from ocr.tracking.summary import finalize_run, log_table
from ocr.utils.files import write_atomic
from ocr.utils.machine import cores

CSV = "sweep.csv"  # all rows, in the sweep's folder
MAX_ROWS = 20  # rows of the table on the screen
PIPE_WIDTH = 200  # characters of a table that no terminal shows
ADDED = "callbacks.pruning"  # overrides of it are the sweep's, not the user's


@dataclass(frozen=True)
class Ranking:
    """Trials of a sweep, the best first, ranked by a metric; and the pictures that show them."""

    metric: str
    rows: Sequence[Row]
    pictures: Sequence[Path]


def write_leaderboard(folder: Path, metric: str | None = None) -> Ranking:
    """Rank the jobs of a sweep by their ``metrics.json``; print the table, write ``sweep.csv`` and the pictures.

    ``metric`` is one of validation, ``val/...``; None for that of the jobs.

    Raises:
        UserError: no job of a sweep has ended in that folder, or the metric is one of a test.
    """
    jobs = read_jobs(folder)
    if not jobs:
        raise UserError(f"{folder} has no job of a sweep that has ended (<folder>/*/metrics.json)")
    metric = metric or next((job.metric for job in jobs if job.metric), None) or "val/hmean"
    if not metric.startswith("val/"):
        raise UserError(f"metric={metric}: a sweep is ranked by a figure of validation, val/..., never by a test's")
    maximize = jobs[0].maximize
    rows = rank(jobs, metric, maximize)
    finished = [row for row in rows if row.state == "finished"]
    compared = {row.number: compare(finished[0], row) for row in finished[1:]}
    write_atomic(folder / CSV, _csv(rows, metric, compared))
    pictures = []
    if len(finished) > 1 and finished[0].varied:
        columns, scores = columns_of(finished), [row.mean for row in finished]
        spreads, shares = [row.spread or 0.0 for row in finished], importance(finished, maximize)
        pictures = [
            plot_parallel(columns, scores, folder / "sweep_parallel.png", metric, maximize),
            plot_settings(columns, scores, spreads, folder / "sweep_settings.png", metric, shares),
        ]
    _print(rows, metric, compared)
    for path in (folder / CSV, *pictures):
        print(f"{path.suffix[1:]:8}  {path}")
    if finished:
        job = finished[0].jobs[0]
        seed = f", seed {job.seed}" if len(finished[0].jobs) > 1 else ""
        print(f"the best again, trial {job.number}{seed}, {metric} {finished[0].scores[job.seed]:.4f}:")
        print(f"  {command_of(finished[0])}")
    return Ranking(metric, rows, pictures)


def command_of(row: Row) -> str:
    """The command that trains a row's first seed again, by itself."""
    job = row.jobs[0]
    kept = [o for o in job.overrides if not key_of(o).startswith(ADDED)]
    command = shlex.join(["python", "runners/train.py", *kept])
    if job.threads not in (None, cores()):  # a worker had a part of the cores
        command = f"OMP_NUM_THREADS={job.threads} {command}"
    return f"{command}  # put in what is hidden here ({HIDDEN})" if HIDDEN in command else command


def _csv(rows: Sequence[Row], metric: str, compared: Mapping[int, Comparison | None]) -> str:
    settings = settings_of(rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["rank", "trial", "state", metric, "standard_deviation", "seeds", "test", "p", *settings, "reason"])
    for k, row in enumerate(rows, 1):
        comparison, spread = compared.get(row.number), row.spread
        reason = next((job.reason for job in row.jobs if job.reason), "")
        writer.writerow([
            k if row.state == "finished" else "", row.number, row.state, f"{row.mean:.6f}" if row.scores else "",
            "" if spread is None else f"{spread:.6f}", len(row.scores),
            comparison.test if comparison else "", f"{comparison.p:.6f}" if comparison else "",
            *(row.varied.get(key, "") for key in settings), reason,
        ])  # fmt: skip
    return text.getvalue()


def _print(rows: Sequence[Row], metric: str, compared: Mapping[int, Comparison | None]) -> None:
    settings = settings_of(rows)
    table = Table(title=f"ranked by {metric}", title_justify="left")
    for column in ("", "trial", metric, "sd", "seeds"):
        table.add_column(column, justify="right")
    for key in settings:
        table.add_column(escape(key.rpartition(".")[2]), overflow="fold", min_width=6)
    table.add_column("", overflow="fold")
    for k, row in enumerate(rows[:MAX_ROWS], 1):
        spread = row.spread
        table.add_row(
            str(k) if row.state == "finished" else "", str(row.number), f"{row.mean:.4f}" if row.scores else "",
            "" if spread is None else f"{spread:.4f}", str(len(row.scores)),
            *(escape(_short(row.varied.get(key, ""))) for key in settings),
            verdict(row, rows[0], compared.get(row.number)),
        )  # fmt: skip
    console = Console()
    Console(width=None if console.is_terminal else PIPE_WIDTH).print(table)
    if len(rows) > MAX_ROWS:
        print(f"{len(rows) - MAX_ROWS} more in {CSV}")
    print(_note(rows, compared))


def _note(rows: Sequence[Row], compared: Mapping[int, Comparison | None]) -> str:
    tests = sorted({comparison.test for comparison in compared.values() if comparison})
    if tests:
        return f"{' and '.join(tests)} test over seeds against the best row, p < {SIGNIFICANCE}, not corrected for rows"
    if all(job.seeds == 1 for row in rows for job in row.jobs):
        return "one seed per trial: no row is called better than another; sweep.seeds=3 trains each three times"
    return "nothing to compare"


def _short(text: str) -> str:
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text


def publish(ranking: Ranking, folder: Path, logger: LoggerSettings) -> None:
    """Write one W&B run in the group of the jobs: table, plots, the best trial; resumed with the sweep.

    Nothing happens where W&B is off, or was for the jobs.
    """
    records = [record for path in sorted(folder.glob(f"*/{RECORD}")) if (record := read_record(path))]
    if not records or not logger.wandb.enabled:
        return
    jobs = records[0]
    own = replace(logger, project_name=jobs["project"], entity=jobs["entity"], group=jobs["group"], run_name=None,
                  save_dir=str(folder))  # fmt: skip
    config = {"name": folder.resolve().name, "logger": {"user": logger.user, "private": logger.private}}
    job = Job(str(config["name"]), folder, config, own, sweep=folder.resolve().name)
    with tracked_run(job, "leaderboard") as tracking:
        if tracking is None:
            return
        header, *lines = csv.reader(io.StringIO((folder / CSV).read_text(encoding="utf-8")))
        log_table(tracking.run, "leaderboard", header, tracking.job.redactor.plain(lines))
        tracking.run.log({f"sweep/{path.stem}": wandb.Image(str(path)) for path in ranking.pictures})
        best = ranking.rows[0] if ranking.rows[0].state == "finished" else None
        for state in ("finished", "pruned", "failed"):
            tracking.run.summary[f"trials/{state}"] = sum(row.state == state for row in ranking.rows)
        if best is not None:
            tracking.run.summary["best/trial"] = best.number
            tracking.run.summary.update(tracking.job.redactor.plain({f"best/{k}": v for k, v in best.varied.items()}))
        finalize_run({ranking.metric: best.mean} if best else {}, metric_keys=(ranking.metric,))
