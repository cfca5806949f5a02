"""A detector: backbone, neck and head as one module; and the output of every network."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn


class Maps(NamedTuple):
    """Output of a network for a batch: logits float (B, 1, H, W); ``threshold`` only in training."""

    probability: torch.Tensor
    threshold: torch.Tensor | None


class DBDetector(nn.Module):
    """Image batch to maps (Liao et al. 2020).

    Args:
        backbone: gives features at strides 4, 8, ...; has ``channels`` and ``strides``, finest first.
        neck: makes the neck from ``in_channels`` and ``strides``; the neck has ``channels``, those of its output.
        head: makes the head from ``in_channels``.
    """

    def __init__(self, backbone: nn.Module, neck: Callable[..., nn.Module], head: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck(in_channels=backbone.channels, strides=backbone.strides)
        self.head = head(in_channels=self.neck.channels)

    def forward(self, x: torch.Tensor) -> Maps:
        """Float (B, 3, H, W), normalised, H and W multiples of the coarsest stride, to logits (B, 1, H, W)."""
        return self.head(self.neck(self.backbone(x)))

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by the names that learning-rate multipliers use."""
        of_head = getattr(self.head, "parts", None)  # a head may be one part or several
        parts = {"backbone": [*self.backbone.parameters()], "neck": [*self.neck.parameters()]}
        return parts | (of_head() if of_head is not None else {"head": [*self.head.parameters()]})
