"""Output of every network of this project."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Maps(NamedTuple):
    """Output of a network for a batch: logits float (B, 1, H, W); ``threshold`` only in training."""

    probability: torch.Tensor
    threshold: torch.Tensor | None
