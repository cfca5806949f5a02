"""The optimizer, and its learning rate per step: linear warm-up, then cosine or polynomial decay."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from ocr.errors import UserError
from ocr.training.lamb import FilterLamb, filter_axes


@dataclass(frozen=True)
class OptimizerConfig:
    """Settings of the optimizer.

    Attributes:
        kind: ``adamw``, or ``lamb``, see :class:`ocr.training.lamb.FilterLamb`, whose step is a share of each filter's
            norm: for networks whose batch norms were folded, so that one's weights are thousands of times another's.
        lr: peak learning rate.
        weight_decay: on matrices and kernels; biases and norms have none.
        betas: of AdamW.
        schedule: ``cosine`` or ``poly``, after the warm-up.
        warmup_share: share of all steps in which the rate rises linearly from 0.
        power: of the polynomial (0.9 in DB).
        final_share: the rate ends at this share of the peak.
        lr_shares: factors on the rate for parts of the network, by name: those of its ``parts()``. A part with 0 is
            frozen, see :func:`freeze_parts`.
    """

    kind: str
    lr: float
    weight_decay: float
    betas: tuple[float, float]
    schedule: str
    warmup_share: float
    power: float
    final_share: float
    lr_shares: Mapping[str, float]

    def __post_init__(self) -> None:
        if self.kind not in ("adamw", "lamb"):
            raise UserError(f"optimizer.kind must be adamw or lamb, got {self.kind!r}")
        if not self.lr > 0:
            raise UserError(f"optimizer.lr must be positive, got {self.lr}")
        if self.schedule not in ("cosine", "poly"):
            raise UserError(f"optimizer.schedule must be cosine or poly, got {self.schedule!r}")
        for name in ("warmup_share", "final_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"optimizer.{name} must lie in 0..1, got {getattr(self, name)}")
        for part, share in self.lr_shares.items():
            if isinstance(share, bool) or not isinstance(share, (int, float)) or share < 0:
                raise UserError(f"optimizer.lr_shares.{part} must be a number from 0, got {share!r}")


def freeze_parts(model: nn.Module, config: OptimizerConfig) -> None:
    """Freeze the parts with a share of 0: no gradients, and batch norms, dropout and the like in evaluation mode.

    The backward pass then ends where nothing before it learns. Call it before a strategy wraps the model, since DDP
    waits for gradients of all that wanted one then, and again after each ``train()``, which undoes the evaluation mode.
    A module belongs to a part when all its parameters do; one that spans several parts keeps its mode, because a
    detector or head in evaluation mode leaves out its threshold map.
    """
    parts = model.parts() if hasattr(model, "parts") else {}
    for part in parts.keys() & {name for name, share in config.lr_shares.items() if share == 0}:
        frozen = {id(parameter) for parameter in parts[part]}
        for parameter in parts[part]:
            parameter.requires_grad_(False)
        for module in model.modules():
            own = {id(parameter) for parameter in module.parameters()}
            if own and own <= frozen:
                module.eval()


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimizer over the parameters that want a gradient; biases, norms and single factors do not decay.

    Raises:
        UserError: ``lr_shares`` names a part that the network does not have.
    """
    parts: dict[str, list[nn.Parameter]] = model.parts() if hasattr(model, "parts") else {"all": [*model.parameters()]}
    if unknown := set(config.lr_shares) - set(parts):
        raise UserError(
            f"optimizer.lr_shares: no part {', '.join(sorted(unknown))}; this network has {', '.join(parts)}"
        )
    groups = []
    for part, parameters in parts.items():
        share = float(config.lr_shares.get(part, 1.0))
        trained = [p for p in parameters if p.requires_grad and share > 0]
        matrices, others = [p for p in trained if p.squeeze().ndim > 1], [p for p in trained if p.squeeze().ndim <= 1]
        for members, decay, suffix in ((matrices, config.weight_decay, ""), (others, 0.0, "_flat")):
            if members:
                group = {"params": members, "weight_decay": decay, "lr": config.lr * share, "name": part + suffix}
                groups.append(group)
    betas = tuple(config.betas)
    if config.kind == "lamb":
        return FilterLamb(groups, filter_axes(model), config.lr, betas, config.weight_decay)
    return torch.optim.AdamW(groups, lr=config.lr, betas=betas)


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
