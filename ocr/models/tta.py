"""Several looks at one image, merged into one probability map before any contour is drawn.

Maps are merged, not boxes: a line that crosses the seam of two tiles is one contour, and views at other scales move
edges instead of adding rival boxes. What it costs is the network's time in proportion to the pixels it reads.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F

from ocr.errors import UserError

Network = Callable[[torch.Tensor], torch.Tensor]  # float (B, 3, H, W), normalised, to probability (B, 1, H, W)


@dataclass(frozen=True)
class Views:
    """What an image is looked at as.

    Attributes:
        scales: factors on the input size, up to 1; every one is a pass.
        flips: of ``horizontal`` and ``vertical``: each adds a pass, besides the image as it is.
        turns: degrees of further passes over the turned image: 90, 180, 270. For pages that may lie on their side:
            where a view is turned the right way it sees what the others miss.
        merge: ``mean`` or ``max`` of the views' maps.
        tile: longest side of what the network gets at once, in network pixels; larger inputs are read in tiles that
            overlap. None for no limit.
        overlap: of neighbouring tiles, at least, network pixels; there the weight goes linearly from one to the other.
    """

    scales: tuple[float, ...] = (1.0,)
    flips: tuple[str, ...] = ()
    turns: tuple[int, ...] = ()
    merge: str = "mean"
    tile: int | None = None
    overlap: int = 128

    def __post_init__(self) -> None:
        for name in ("scales", "flips", "turns"):
            value = getattr(self, name)
            if isinstance(value, str) or not isinstance(value, Iterable):
                raise UserError(f"views.{name} must be a list, got {value!r}")
            object.__setattr__(self, name, tuple(value))
        if not self.scales or not all(_is_number(s) and 0 < s <= 1 for s in self.scales):
            raise UserError(
                f"views.scales must be factors above 0 and up to 1, got {list(self.scales)}; for larger ones raise "
                "resize.long_side"
            )
        if set(self.flips) - {"horizontal", "vertical"}:
            raise UserError(f"views.flips knows horizontal and vertical, got {list(self.flips)}")
        if set(self.turns) - {90, 180, 270}:
            raise UserError(f"views.turns knows 90, 180 and 270, got {list(self.turns)}")
        if self.merge not in ("mean", "max"):
            raise UserError(f"views.merge must be mean or max, got {self.merge!r}")
        tile = math.inf if self.tile is None else self.tile
        if not _is_number(self.overlap) or not _is_number(tile) or not 0 <= self.overlap < tile:
            raise UserError(f"views.tile must be larger than views.overlap, got {self.tile!r} and {self.overlap!r}")

    @classmethod
    def of(cls, *settings: Mapping[str, Any] | None) -> Views:
        """From settings by name, later ones first in rank; None is no setting."""
        chosen: dict[str, Any] = {}
        for values in settings:
            chosen |= {name: value for name, value in (values or {}).items() if value is not None}
        unknown = set(chosen) - {f.name for f in fields(cls)}
        if unknown:
            raise UserError(f"views knows no {', '.join(sorted(unknown))}")
        return cls(**chosen)

    def changed(self) -> dict[str, Any]:
        """What is not as it is by default, as plain types."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @property
    def passes(self) -> list[tuple[float, str | None, int]]:
        """(scale, flip, turn) of every pass."""
        moves = [(None, 0), *((flip, 0) for flip in self.flips), *((None, turn) for turn in self.turns)]
        return [(scale, *move) for scale, move in itertools.product(self.scales, moves)]

    def run(self, network: Network, images: torch.Tensor, multiple: int, fill: float = 0.0) -> torch.Tensor:
        """Probability (B, 1, H, W) of images, float (B, 3, H, W), H and W multiples of ``multiple``.

        Args:
            multiple: the network's coarsest stride; views and tiles are padded to it.
            fill: value of the padding, normalised.
        """
        total: torch.Tensor | None = None
        for scale, flip, turn in self.passes:
            probability = self._pass(network, images, multiple, fill, scale, flip, turn)
            if total is None:
                total = probability
            else:
                total = torch.maximum(total, probability) if self.merge == "max" else total + probability
        assert total is not None
        return total if self.merge == "max" or len(self.passes) == 1 else total / len(self.passes)

    def _pass(
        self,
        network: Network,
        images: torch.Tensor,
        multiple: int,
        fill: float,
        scale: float,
        flip: str | None,
        turn: int,
    ) -> torch.Tensor:
        height, width = images.shape[2:]
        view = images
        if scale != 1:
            size = (max(1, round(height * scale)), max(1, round(width * scale)))
            view = F.interpolate(view, size=size, mode="bilinear", align_corners=False, antialias=True)
            below, right = (-side % multiple for side in size)
            view = F.pad(view, (0, right, 0, below), value=fill)
        axis = {"horizontal": 3, "vertical": 2, None: None}[flip]
        view = view if axis is None else view.flip(axis)
        view = torch.rot90(view, turn // 90, (2, 3)).contiguous(memory_format=torch.channels_last)
        found = self._tiled(network, view, multiple)
        found = torch.rot90(found, -(turn // 90), (2, 3))
        found = found if axis is None else found.flip(axis)
        if scale != 1:
            found = found[:, :, : size[0], : size[1]]
            found = F.interpolate(found, size=(height, width), mode="bilinear", align_corners=False)
        return found

    def _tiled(self, network: Network, images: torch.Tensor, multiple: int) -> torch.Tensor:
        height, width = images.shape[2:]
        if self.tile is None or max(height, width) <= self.tile:
            return network(images)
        total = images.new_zeros((len(images), 1, height, width))
        weight = images.new_zeros((1, 1, height, width))
        rows, columns = (spans(side, self.tile, self.overlap, multiple) for side in (height, width))
        for (top, bottom), (left, right) in itertools.product(rows, columns):
            part = images[:, :, top:bottom, left:right].contiguous(memory_format=torch.channels_last)
            vertical = _ramp(top, bottom, height, self.overlap, images)
            share = vertical[:, None] * _ramp(left, right, width, self.overlap, images)
            total[:, :, top:bottom, left:right] += network(part) * share
            weight[:, :, top:bottom, left:right] += share
        return total / weight


def spans(side: int, tile: int, overlap: int, multiple: int) -> list[tuple[int, int]]:
    """(start, end) of tiles of equal length that cover 0..side and overlap by at least ``overlap``.

    Starts and ends are multiples of ``multiple`` when ``side`` is; a tile is at most ``tile`` rounded down to it, but
    at least one multiple longer than the overlap.
    """
    overlap = math.ceil(overlap / multiple) * multiple
    tile = max(tile // multiple * multiple, overlap + multiple)
    if side <= tile:
        return [(0, side)]
    count = math.ceil((side - overlap) / (tile - overlap))
    starts = [round(k * (side - tile) / (count - 1) / multiple) * multiple for k in range(count)]
    return [(start, start + tile) for start in starts]


def _ramp(start: int, end: int, side: int, overlap: int, like: torch.Tensor) -> torch.Tensor:
    """Weight along a tile, (end - start,): 1 inside, falling to its ends unless they are the image's."""
    place = torch.arange(end - start, device=like.device, dtype=like.dtype) + 0.5
    reach = max(overlap, 1)
    weight = torch.ones_like(place)
    if start > 0:
        weight = torch.minimum(weight, place / reach)
    if end < side:
        weight = torch.minimum(weight, (end - start - place) / reach)
    return weight


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
