"""What every network of this project gives."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Maps(NamedTuple):
    """What the network says of a batch: logits float (B, 1, H, W); ``threshold`` only in training."""

    probability: torch.Tensor
    threshold: torch.Tensor | None
