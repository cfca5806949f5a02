"""Test-time augmentation and tiling: several passes over an image, merged into one probability map.

Maps are merged, not boxes: a line that crosses the seam of two tiles is one contour. The cost is the network's time in
proportion to the pixels that it reads.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch

from ocr.errors import UserError

Network = Callable[[torch.Tensor], torch.Tensor]  # float (B, 3, H, W), normalised, to probability (B, 1, H, W)


@dataclass(frozen=True)
class TestTimeAugmentation:
    """Passes over one image.

    Attributes:
        rotations: degrees of further passes over the rotated image: 90, 180, 270. A mean of passes does not mend pages
            that lie on their side: :mod:`ocr.models.orientation` does.
        merge: ``mean`` or ``max`` of the passes' maps.
        tile: longest side of the network's input, in network pixels; larger inputs, those of very long pages, are read
            in overlapping tiles. 0 for no limit.
        overlap: smallest overlap of neighbouring tiles, in network pixels; there the weight moves linearly from one
            tile to the other.
    """

    __test__ = False  # for pytest, which collects classes by this prefix

    rotations: tuple[int, ...] = ()
    merge: str = "mean"
    tile: int = 2048
    overlap: int = 128

    def __post_init__(self) -> None:
        if isinstance(self.rotations, str) or not isinstance(self.rotations, Iterable):
            raise UserError(f"tta.rotations must be a list, got {self.rotations!r}")
        object.__setattr__(self, "rotations", tuple(self.rotations))
        if set(self.rotations) - {90, 180, 270}:
            raise UserError(f"tta.rotations knows 90, 180 and 270, got {list(self.rotations)}")
        if self.merge not in ("mean", "max"):
            raise UserError(f"tta.merge must be mean or max, got {self.merge!r}")
        tile = math.inf if self.tile == 0 else self.tile
        if not _is_number(self.overlap) or not _is_number(tile) or not 0 <= self.overlap < tile:
            raise UserError(f"tta.tile must be larger than tta.overlap, got {self.tile!r} and {self.overlap!r}")

    @classmethod
    def from_settings(cls, *settings: Mapping[str, Any] | None) -> TestTimeAugmentation:
        """Settings by name, later ones override earlier ones; a value of None is no setting."""
        chosen: dict[str, Any] = {}
        for values in settings:
            chosen |= {name: value for name, value in (values or {}).items() if value is not None}
        unknown = set(chosen) - {f.name for f in fields(cls)}
        if unknown:
            raise UserError(f"tta has no setting {', '.join(sorted(unknown))}")
        return cls(**chosen)

    def changed(self) -> dict[str, Any]:
        """Settings that differ from the defaults, as plain types."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def run(self, network: Network, images: torch.Tensor, multiple: int) -> torch.Tensor:
        """Probability (B, 1, H, W) of images, float (B, 3, H, W), H and W multiples of ``multiple``.

        Args:
            multiple: the network's coarsest stride, to which tiles are aligned.
        """
        maps = torch.stack([self._rotated(network, images, multiple, turn) for turn in (0, *self.rotations)])
        return maps.amax(0) if self.merge == "max" else maps.mean(0)

    def _rotated(self, network: Network, images: torch.Tensor, multiple: int, degrees: int) -> torch.Tensor:
        rotated = torch.rot90(images, degrees // 90, (2, 3)).contiguous(memory_format=torch.channels_last)
        return torch.rot90(self._tiled(network, rotated, multiple), -(degrees // 90), (2, 3))

    def _tiled(self, network: Network, images: torch.Tensor, multiple: int) -> torch.Tensor:
        height, width = images.shape[2:]
        if not self.tile or max(height, width) <= self.tile:
            return network(images)
        total = images.new_zeros((len(images), 1, height, width))
        weight = images.new_zeros((1, 1, height, width))
        rows, columns = (spans(side, self.tile, self.overlap, multiple) for side in (height, width))
        for (top, bottom), (left, right) in itertools.product(rows, columns):
            tile = images[:, :, top:bottom, left:right].contiguous(memory_format=torch.channels_last)
            vertical = _ramp(top, bottom, height, self.overlap, images)
            tile_weight = vertical[:, None] * _ramp(left, right, width, self.overlap, images)
            total[:, :, top:bottom, left:right] += network(tile) * tile_weight
            weight[:, :, top:bottom, left:right] += tile_weight
        return total / weight


def spans(side: int, tile: int, overlap: int, multiple: int) -> list[tuple[int, int]]:
    """(start, end) of the fewest tiles of equal length that cover 0..side and overlap by at least ``overlap``.

    Starts and ends are multiples of ``multiple`` when ``side`` is; a tile is at most ``tile`` rounded down to it, but
    at least one multiple longer than the overlap, and no longer than it takes.
    """
    overlap = math.ceil(overlap / multiple) * multiple
    tile = max(tile // multiple * multiple, overlap + multiple)
    if side <= tile:
        return [(0, side)]
    count = math.ceil((side - overlap) / (tile - overlap))
    tile = math.ceil((side + (count - 1) * overlap) / count / multiple) * multiple
    starts = [round(k * (side - tile) / (count - 1) / multiple) * multiple for k in range(count)]
    return [(start, start + tile) for start in starts]


def _ramp(start: int, end: int, side: int, overlap: int, like: torch.Tensor) -> torch.Tensor:
    """Weight along a tile, (end - start,): 1 inside, falling towards ends that are not the image's."""
    position = torch.arange(end - start, device=like.device, dtype=like.dtype) + 0.5
    reach = max(overlap, 1)
    weight = torch.ones_like(position)
    if start > 0:
        weight = torch.minimum(weight, position / reach)
    if end < side:
        weight = torch.minimum(weight, (end - start - position) / reach)
    return weight


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
