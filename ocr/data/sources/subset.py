"""A part of the training images, for a learning curve."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ocr.data.index.identity import name_hash
from ocr.data.sources.build import Source, StoredSource
from ocr.errors import UserError


def draw_subset(sources: Sequence[Source], fraction: float, draw: int) -> list[Source]:
    """A part of the images of each source that is files; other sources stay whole.

    Images are ordered by the hash of their names, and a draw is a run of that order which starts at 0, 1/2, 1/4, 3/4,
    1/8, ... of it: a smaller part lies within a larger one of the same draw, and two halves share no image.

    Args:
        sources: of a split.
        fraction: of the images, 0 < fraction <= 1; one image of a source at least.
        draw: number of the draw, from 0.

    Raises:
        UserError: no source is files.
    """
    if not any(isinstance(source, StoredSource) for source in sources):
        raise UserError("data.train_fraction takes a part of images that are files, and data.train has none")
    drawn: list[Source] = []
    for source in sources:
        if isinstance(source, StoredSource):
            order = np.argsort([name_hash(Path(source.name(i)).stem) for i in range(len(source))], kind="stable")
            start = round(_van_der_corput(draw) * len(order))
            drawn.append(source.only(np.sort(np.roll(order, -start)[: max(1, round(fraction * len(order)))]).tolist()))
        else:
            drawn.append(source)
    return drawn


def _van_der_corput(k: int) -> float:
    """Term k of the sequence 0, 1/2, 1/4, 3/4, 1/8, ...: the bits of k behind the point, last one first."""
    return sum(int(bit) / 2 ** (position + 1) for position, bit in enumerate(reversed(f"{k:b}")))
