"""Parameter groups of the optimizer, and parts of the network that are frozen."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ocr.errors import UserError, first_line
from ocr.migrations import migrate_optimizer_state
from ocr.training.optim.scaling import LrScaling

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OptimizerSettings:
    """Settings of the optimizer and its parameter groups.

    Attributes:
        optimizer: makes the optimizer from parameter groups.
        schedule: makes the scheduler from the optimizer, see :func:`ocr.training.optim.schedule.make_scheduler`.
        lr_multipliers: factors on the learning rate per part of the network, by the names of its ``parts()``; a part
            with 0 is frozen.
        scaling: of the learning rate with the samples per step; None for none.
    """

    optimizer: Callable[..., torch.optim.Optimizer]
    schedule: Callable[..., torch.optim.lr_scheduler.LRScheduler]
    lr_multipliers: Mapping[str, float]
    scaling: LrScaling | None = None

    def __post_init__(self) -> None:
        for part, factor in self.lr_multipliers.items():
            if isinstance(factor, bool) or not isinstance(factor, (int, float)) or factor < 0:
                raise UserError(f"lr_multipliers.{part} must be a number from 0, got {factor!r}")


def freeze_parts(model: nn.Module, lr_multipliers: Mapping[str, float]) -> None:
    """Disable gradients of parts with multiplier 0, and keep their batch norms and dropout in evaluation mode.

    Autograd then stops at the first trainable layer. Call it before a strategy wraps the model, since DDP waits for
    gradients of all parameters that require one then, and again after each ``train()``. A module belongs to a part
    when all its parameters do; one that spans several parts keeps its mode, because a detector or head in evaluation
    mode leaves out its threshold map.
    """
    parts = parts_of(model)
    for part in parts.keys() & {name for name, factor in lr_multipliers.items() if factor == 0}:
        frozen = {id(parameter) for parameter in parts[part]}
        for parameter in parts[part]:
            parameter.requires_grad_(False)
        for module in model.modules():
            own = {id(parameter) for parameter in module.parameters()}
            if own and own <= frozen:
                module.eval()


def parts_of(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Parameters by part; a network without ``parts()`` is one part, ``all``."""
    parts = getattr(model, "parts", None)
    return parts() if parts is not None else {"all": [*model.parameters()]}


def make_optimizer(model: nn.Module, settings: OptimizerSettings, samples: int | None = None) -> torch.optim.Optimizer:
    """The optimizer over the parameters that require a gradient; biases, norms and single factors do not decay.

    Args:
        samples: per step, all devices together; None leaves the learning rate as it is.

    Raises:
        UserError: ``lr_multipliers`` names a part that the network does not have, or the optimizer refuses a setting.
    """
    parts = parts_of(model)
    if unknown := set(settings.lr_multipliers) - set(parts):
        raise UserError(f"lr_multipliers: no part {', '.join(sorted(unknown))}; this network has {', '.join(parts)}")
    groups: list[dict[str, Any]] = []
    factors: list[float] = []
    for part, parameters in parts.items():
        trained = [p for p in parameters if p.requires_grad]
        factor = float(settings.lr_multipliers.get(part, 1.0))
        if matrices := [p for p in trained if p.squeeze().ndim > 1]:
            groups.append({"params": matrices, "name": part})
            factors.append(factor)
        if others := [p for p in trained if p.squeeze().ndim <= 1]:
            groups.append({"params": others, "name": f"{part}_flat", "weight_decay": 0.0})
            factors.append(factor)
    try:
        optimizer = settings.optimizer(groups)
    except Exception as error:  # optimizers refuse arguments in many ways
        raise UserError(f"optimizer: {first_line(error)}") from error
    optimizer.register_load_state_dict_pre_hook(migrate_optimizer_state)
    scale = settings.scaling.factor(samples) if settings.scaling and samples else 1.0
    if scale != 1:
        log.info("optimizer.scale_lr: %d samples per step multiply a fresh run's learning rate by %.4g", samples, scale)
    for group, factor in zip(optimizer.param_groups, factors, strict=True):
        group["lr"] *= factor * scale
    return optimizer
