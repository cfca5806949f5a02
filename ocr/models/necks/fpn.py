"""Feature pyramid (Lin et al. 2017, as in DB) with adaptive scale fusion (DBNet++, Liao et al. 2022) as an option."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ocr.utils.typed import Count


class FPN(nn.Module):
    """Features of several strides to one map at the finest stride.

    Args:
        in_channels, strides: of the features, finest first.
        channels: of the output; each level gives ``channels / len(in_channels)`` of them.
        adaptive_scale_fusion: weigh the levels at every place before they are joined.
    """

    def __init__(
        self, in_channels: Sequence[int], strides: Sequence[int], channels: Count, adaptive_scale_fusion: bool
    ) -> None:
        super().__init__()
        levels = len(in_channels)
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1, bias=False) for c in in_channels)
        self.smooth = nn.ModuleList(
            nn.Conv2d(channels, channels // levels, 3, padding=1, bias=False) for _ in in_channels
        )
        self.strides = list(strides)
        self.channels = channels // levels * levels
        self.fusion = AdaptiveScaleFusion(self.channels, levels) if adaptive_scale_fusion else None
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """(B, C_i, H / stride_i, W / stride_i), finest first, to (B, channels, H / stride_0, W / stride_0).

        Factors come from the strides, not from the features' sizes, so that an exported file holds them as numbers.
        """
        strides = self.strides
        maps = [lateral(feature) for lateral, feature in zip(self.lateral, features)]
        for i in range(len(maps) - 2, -1, -1):
            maps[i] = maps[i] + _enlarge(maps[i + 1], strides[i + 1] / strides[i])
        maps = [smooth(m) for smooth, m in zip(self.smooth, maps)]
        maps = [maps[0]] + [_enlarge(m, stride / strides[0]) for m, stride in zip(maps[1:], strides[1:])]
        joined = torch.cat(maps, dim=1)
        return joined if self.fusion is None else self.fusion(joined, maps)


def _enlarge(x: torch.Tensor, factor: float) -> torch.Tensor:
    return F.interpolate(x, scale_factor=factor, mode="nearest")


class AdaptiveScaleFusion(nn.Module):
    """Attention over the levels from a spatial attention map (Liao et al. 2022, section 3.3)."""

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        inner = max(channels // 4, levels)
        self.reduce = nn.Conv2d(channels, inner, 3, padding=1)
        self.spatial = nn.Sequential(
            nn.Conv2d(1, 1, 3, padding=1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(1, 1, 1, bias=False),
            nn.Sigmoid(),
        )
        self.weigh = nn.Sequential(nn.Conv2d(inner, levels, 1, bias=False), nn.Sigmoid())

    def forward(self, joined: torch.Tensor, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """(B, C, H, W) and its ``levels`` parts to (B, C, H, W)."""
        reduced = self.reduce(joined)
        reduced = reduced + self.spatial(reduced.mean(dim=1, keepdim=True))
        weights = self.weigh(reduced)
        return torch.cat([weights[:, i : i + 1] * m for i, m in enumerate(maps)], dim=1)
