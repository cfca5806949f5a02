"""Timing on machines that do other work, too: repeated, in turns, median and spread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Timing:
    """Seconds of one piece of work over its repetitions.

    Attributes:
        median, low, high: the middle, and the first and third quartile.
        repeats: how many.
    """

    median: float
    low: float
    high: float
    repeats: int

    @classmethod
    def of(cls, seconds: list[float]) -> Timing:
        low, median, high = statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else seconds * 3
        return cls(median, low, high, len(seconds))

    def per_piece(self, count: float) -> Timing:
        """The time of one of ``count`` equal pieces."""
        return Timing(self.median / count, self.low / count, self.high / count, self.repeats)


def in_turns(
    works: Mapping[str, Callable[[], Any]], repeats: int, warmup: int = 1, budget: float = float("inf")
) -> dict[str, Timing]:
    """Time several functions in turns, so that other work on the machine slows all of them alike.

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
    return {name: Timing.of(values) for name, values in seconds.items()}


def median_ratio(rounds: list[tuple[float, float]]) -> Timing:
    """The first over the second of each round: what both share cancels out."""
    return Timing.of([a / b for a, b in rounds])
