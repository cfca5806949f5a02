"""Results of a job: the figure that it is judged by, and the table at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

STAGES = ("train", "start", "val", "tune", "test", "seen")


@dataclass(frozen=True)
class Headline:
    """The figure that a job is judged by.

    Attributes:
        key: its name among the metrics.
        selected_on: the split of the training that it was measured on, whose images something was chosen (or trained)
            on; None for a test.
        note: what a reader must know of it, one line.
    """

    key: str
    selected_on: str | None = None
    note: str | None = None


def scalars(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Logged metrics as floats, sorted by name."""
    return {key: float(value) for key, value in sorted(metrics.items())}


def print_results(
    title: str, metrics: Mapping[str, Any], paths: Mapping[str, Any], headline: Headline | None = None
) -> None:
    """Print a short table of results, the headline first, then one line per file or folder.

    Learning rates and the like stay in ``metrics.json``.
    """
    metrics = {k: v for k, v in metrics.items() if "/" not in k or k.split("/")[0] in STAGES}
    table = Table(title=escape(title), show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    if headline is not None and headline.key in metrics:
        table.add_row(headline.key, f"{metrics.pop(headline.key):.4f}", style="bold")
        table.add_section()
    for name, value in metrics.items():
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    Console().print(table)
    if headline is not None and headline.note:
        print(f"{headline.key}: {headline.note}")
    width = max(map(len, paths), default=0)
    for name, path in paths.items():  # unbroken, whatever the width of the terminal, so that they can be copied
        print(f"{name:{width}}  {path}")
