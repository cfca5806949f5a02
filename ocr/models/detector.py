"""The DB detector: backbone, neck and head as one module (Liao et al. 2020)."""

from __future__ import annotations

import torch
from torch import nn

from ocr.models.backbones.timm import TimmBackbone
from ocr.models.necks.fpn import FPN
from ocr.models.outputs import Maps


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

    def __init__(self, in_channels: int, channels: int, prior: float) -> None:
        super().__init__()
        self.probability = MapHead(in_channels, channels)
        self.threshold = MapHead(in_channels, channels)
        logit = torch.logit(torch.tensor(prior, device="cpu"))  # a number even where the rest is built on "meta"
        nn.init.constant_(self.probability[-1].bias, float(logit))

    def forward(self, x: torch.Tensor) -> Maps:
        return Maps(self.probability(x), self.threshold(x) if self.training else None)


class DBDetector(nn.Module):
    """Image batch to maps.

    Args:
        backbone: gives features at strides 4, 8, ...
        neck_channels, adaptive_scale_fusion: see :class:`FPN`.
        head_channels, prior: see :class:`DBHead`.
    """

    def __init__(
        self, backbone: TimmBackbone, neck_channels: int, adaptive_scale_fusion: bool, head_channels: int, prior: float
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = FPN(backbone.channels, backbone.strides, neck_channels, adaptive_scale_fusion)
        self.head = DBHead(self.neck.channels, head_channels, prior)
        _init_weights(self.neck)
        _init_weights(self.head)

    def forward(self, x: torch.Tensor) -> Maps:
        """float (B, 3, H, W), normalised, H and W multiples of the coarsest stride, to logits (B, 1, H, W)."""
        return self.head(self.neck(self.backbone(x)))

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by part, for learning rates of their own."""
        return {
            "backbone": [*self.backbone.parameters()],
            "neck": [*self.neck.parameters()],
            "head": [*self.head.probability.parameters()],
            "threshold": [*self.head.threshold.parameters()],
        }


def _init_weights(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
