"""What a job leaves behind and prints at its end."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

STAGES = ("train", "val", "tune", "test")


def scalars(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Logged metrics as floats, sorted by name."""
    return {key: float(value) for key, value in sorted(metrics.items())}


def write_metrics(folder: Path, metrics: Mapping[str, Any], **facts: Any) -> Path:
    """``metrics.json``: the metrics under their logged keys, then the facts; what is not finite becomes null."""
    path = folder / "metrics.json"
    folder.mkdir(parents=True, exist_ok=True)
    content = {**metrics, **facts}
    content = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in content.items()}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path


def print_results(title: str, metrics: Mapping[str, float], places: Mapping[str, Any]) -> None:
    """A short table of results and where everything lies; learning rates and the like stay in ``metrics.json``."""
    metrics = {k: v for k, v in metrics.items() if "/" not in k or k.split("/")[0] in STAGES}
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in metrics.items():
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    table.add_section()
    for name, place in places.items():
        table.add_row(name, str(place))
    Console(stderr=False).print(table)
