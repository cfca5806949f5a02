"""Measured figures beside their goals, as a table and as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ocr.errors import UserError
from ocr.utils.files import write_atomic

WIDTH = 140  # of the table in a file
MS = 1e3  # per second


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        name: ``<part>.<what>``.
        value, low, high: median and quartiles; equal where something was measured once.
        unit: ``ms``, ``s``, ``x`` for a ratio, ...
        repeats: how often it was measured.
        note: what it was measured on.
    """

    name: str
    value: float
    unit: str
    low: float
    high: float
    repeats: int
    note: str

    @classmethod
    def of(cls, name: str, values: Sequence[float], unit: str, note: str = "", pieces: float = 1) -> Row:
        """The figure of repeated measurements.

        Args:
            values: one per repetition; seconds where the unit is ``ms``.
            pieces: equal pieces of which each repetition had that many, the figure being that of one.
        """
        factor = (MS if unit == "ms" else 1) / pieces
        values = [factor * value for value in values]
        low, median, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
        return cls(name, median, unit, low, high, len(values), note)


@dataclass(frozen=True)
class Goal:
    """Limit of a figure.

    Attributes:
        most, least: limits; None for none.
    """

    most: float | None = None
    least: float | None = None

    def __post_init__(self) -> None:
        if (self.most is None) == (self.least is None):
            raise UserError("a goal has either most or least")

    def met(self, value: float) -> bool:
        return value <= self.most if self.most is not None else value >= self.least  # type: ignore[operator]

    def __str__(self) -> str:
        return f"<= {self.most:g}" if self.most is not None else f">= {self.least:g}"


def write_rows(path: Path, rows: Sequence[Row], goals: Mapping[str, Goal], header: Mapping[str, Any]) -> None:
    """JSON: the facts of the run, and every row with its goal and whether it is met."""
    entries = []
    for row in rows:
        goal = goals.get(row.name)
        entries.append(asdict(row) | ({"goal": str(goal), "met": goal.met(row.value)} if goal else {}))
    write_atomic(path, json.dumps({**header, "rows": entries}, indent=2) + "\n")


def print_rows(rows: Sequence[Row], goals: Mapping[str, Goal]) -> None:
    """The figures as a table, a section per part."""
    table = Table(title="benchmark", title_justify="left")
    for column, justify in (("what", "left"), ("median", "right"), ("quartiles", "right"), ("goal", "right")):
        table.add_column(column, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("on", overflow="fold")
    part = None
    for row in rows:
        if part not in (None, row.name.split(".")[0]):
            table.add_section()
        part = row.name.split(".")[0]
        goal = goals.get(row.name)
        spread = f"{row.low:.3g} .. {row.high:.3g}" if row.repeats > 1 else ""
        verdict = "" if goal is None else f"{goal} {'met' if goal.met(row.value) else 'missed'}"
        table.add_row(row.name, f"{row.value:.3g} {row.unit}", spread, verdict, row.note)
    console = Console(stderr=False)
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    console.print(table)
