"""Several sources as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ocr.types import LazySample, Truth


class Sources:
    """Several sources one after the other under one index.

    Sources of unlabelled images can be loaded and named; they have no counts and no identities.
    """

    def __init__(self, sources: Sequence[Any]) -> None:
        self.sources = list(sources)
        self.starts = np.cumsum([0] + [len(s) for s in self.sources])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def find(self, i: int) -> tuple[Any, int]:
        """The source of sample i, and the sample's index there."""
        which = int(np.searchsorted(self.starts, i, side="right")) - 1
        return self.sources[which], int(i - self.starts[which])

    def load(self, i: int) -> tuple[np.ndarray, Truth]:
        source, local = self.find(i)
        return source.load(local)

    def open(self, i: int) -> LazySample:
        source, local = self.find(i)
        return source.open(local)

    def name(self, i: int) -> str:
        source, local = self.find(i)
        return source.name(local)

    def sizes(self) -> np.ndarray | None:
        """int32 (S, 2), width and height; None when a source does not know them."""
        sizes = [source.sizes() for source in self.sources]
        return None if any(s is None for s in sizes) else np.concatenate(sizes)

    def counts(self) -> dict[str, int]:
        """Numbers of images, instances and ignored instances."""
        every = [source.counts() for source in self.sources]
        return {key: sum(counts[key] for counts in every) for key in ("images", "instances", "ignored")}

    def identities(self) -> np.ndarray:
        """int64 (S,), see :meth:`ocr.data.sources.build.Source.identities`."""
        return np.concatenate([np.zeros(0, np.int64), *(source.identities() for source in self.sources)])
