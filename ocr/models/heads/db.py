"""The head of Differentiable Binarization (Liao et al. 2020, section 3.2)."""

from __future__ import annotations

import torch
from torch import nn

from ocr.models.detector import Maps
from ocr.utils.typed import Count, Probability


class MapHead(nn.Sequential):
    """Features at stride 4 to one logit map at stride 1."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(channels, channels, 2, stride=2, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(channels, 1, 2, stride=2),
        )


class DBHead(nn.Module):
    """Probability and threshold maps.

    Args:
        in_channels: of the fused map.
        channels: inside each branch.
        prior: probability that the untrained probability branch gives everywhere.
    """

    def __init__(self, in_channels: int, channels: Count, prior: Probability) -> None:
        super().__init__()
        self.probability = MapHead(in_channels, channels)
        self.threshold = MapHead(in_channels, channels)
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
        logit = torch.logit(torch.tensor(prior, device="cpu"))  # a number even where the rest is built on "meta"
        last = self.probability[-1]
        assert isinstance(last, nn.ConvTranspose2d)
        assert last.bias is not None
        nn.init.constant_(last.bias, float(logit))

    def forward(self, x: torch.Tensor) -> Maps:
        """Fused map (B, in_channels, H / 4, W / 4) to logits (B, 1, H, W); thresholds in training mode only."""
        return Maps(self.probability(x), self.threshold(x) if self.training else None)

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by the names that learning-rate multipliers use."""
        return {"head": [*self.probability.parameters()], "threshold": [*self.threshold.parameters()]}
