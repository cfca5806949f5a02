"""AdamW, and its learning rate per step: linear warm-up, then cosine or polynomial decay."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from ocr.errors import UserError


@dataclass(frozen=True)
class OptimizerConfig:
    """Settings of the optimizer.

    Attributes:
        lr: peak learning rate.
        weight_decay: on matrices and kernels; biases and norms have none.
        betas: of AdamW.
        schedule: ``cosine`` or ``poly``, after the warm-up.
        warmup_share: share of all steps in which the rate rises linearly from 0.
        power: of the polynomial (0.9 in DB).
        final_share: the rate ends at this share of the peak.
    """

    lr: float
    weight_decay: float
    betas: tuple[float, float]
    schedule: str
    warmup_share: float
    power: float
    final_share: float

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise UserError(f"optimizer.lr must be positive, got {self.lr}")
        if self.schedule not in ("cosine", "poly"):
            raise UserError(f"optimizer.schedule must be cosine or poly, got {self.schedule!r}")
        for name in ("warmup_share", "final_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"optimizer.{name} must lie in 0..1, got {getattr(self, name)}")


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW over the parameters that want a gradient."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=tuple(config.betas))


def learning_rate_share(step: int, total: int, config: OptimizerConfig) -> float:
    """Factor on the peak rate at a step, 0 <= step <= total."""
    warmup = max(1, round(total * config.warmup_share))
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    decay = 0.5 * (1 + math.cos(math.pi * progress)) if config.schedule == "cosine" else (1 - progress) ** config.power
    return config.final_share + (1 - config.final_share) * decay


def make_scheduler(
    optimizer: torch.optim.Optimizer, config: OptimizerConfig, total: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """The schedule over ``total`` optimizer steps."""
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_share(step, total, config))
