"""The ranking of a sweep as the console shows it, while it goes on and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ocr.console.jobs.runs import id_of
from ocr.sweeps.ranking import compare, rank, read_jobs, settings_of, verdict

MAX_TRIALS = 100  # shown


def leaderboard(folder: Path, runs: Path) -> dict[str, Any]:
    """Trials of a sweep, the best first, by the figure of validation that its jobs name.

    Returns:
        ``metric``, ``settings`` that vary, ``rows``, and ``more``, how many are not shown.
    """
    jobs = read_jobs(folder)
    metric = next((job.metric for job in jobs if job.metric), None) or "val/hmean"
    rows = rank(jobs, metric, jobs[0].maximize) if jobs else []
    settings = settings_of(rows)
    shown = [
        {
            "number": row.number,
            "id": id_of(row.jobs[0].folder.relative_to(runs).as_posix()),
            "score": f"{row.mean:.4f}" if row.scores else "",
            "spread": "" if row.spread is None else f"{row.spread:.4f}",
            "seeds": len(row.scores),
            "varied": [row.varied.get(key, "") for key in settings],
            "verdict": verdict(row, rows[0], compare(rows[0], row)),
            "reason": next((job.reason for job in row.jobs if job.reason), ""),
        }
        for row in rows[:MAX_TRIALS]
    ]
    return {"metric": metric, "settings": settings, "rows": shown, "more": len(rows) - len(shown)}
