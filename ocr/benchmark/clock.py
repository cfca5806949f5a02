"""Timing on machines that do other work, too."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any


def in_turns(
    works: Mapping[str, Callable[[], Any]], repeats: int, warmup: int = 1, budget: float = float("inf")
) -> dict[str, list[float]]:
    """Seconds of each call of several functions, in turns, so that other work on the machine slows all of them alike.

    Args:
        repeats: rounds.
        warmup: rounds that are not counted.
        budget: seconds after which no further round begins, once two were counted.
    """
    for _ in range(warmup):
        for work in works.values():
            work()
    seconds: dict[str, list[float]] = {name: [] for name in works}
    started = time.perf_counter()
    for done in range(repeats):
        if done >= 2 and time.perf_counter() - started > budget:
            break
        for name, work in works.items():
            begin = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - begin)
    return seconds
