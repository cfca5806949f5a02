"""Memory of a process and its children (Linux)."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def memory_of_family() -> float:
    """Memory of this process and its children in MB, shared pages counted once; NaN where the system does not say."""
    me = os.getpid()
    try:
        children = Path(f"/proc/{me}/task/{me}/children").read_text().split()
        rollups = [Path(f"/proc/{me}/smaps_rollup").read_text()]
    except OSError:
        return float("nan")
    for pid in children:
        with contextlib.suppress(OSError):  # it has ended
            rollups.append(Path(f"/proc/{pid}/smaps_rollup").read_text())
    lines = [line.split() for text in rollups for line in text.splitlines() if line.startswith("Pss:")]
    return sum(int(line[1]) for line in lines) / 1024
