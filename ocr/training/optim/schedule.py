"""The optimizer, and its learning rate per step: linear warm-up, then cosine or polynomial decay."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ocr.errors import UserError
from ocr.training.optim.lamb import FilterLamb, filter_axes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OptimizerConfig:
    """Settings of the optimizer.

    Attributes:
        kind: ``adamw``, or ``lamb``, see :class:`ocr.training.optim.lamb.FilterLamb`, whose step is a share of each
            filter's norm: for networks whose batch norms were folded, so that one's weights are thousands
            of times another's.
        lr: peak learning rate.
        weight_decay: on matrices and kernels; biases and norms have none.
        betas: of AdamW.
        schedule: ``cosine`` or ``poly``, after the warm-up.
        warmup_share: share of all steps in which the rate rises linearly from 0.
        power: of the polynomial (0.9 in DB).
        final_share: the rate ends at this share of the peak.
        lr_shares: factors on the rate for parts of the network, by name: those of its ``parts()``. A part with 0 is
            frozen, see :func:`freeze_parts`.
        resume_schedule: of a resumed run, ``continue`` or ``replan``, see :class:`ResumableSchedule`.
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
    resume_schedule: str

    def __post_init__(self) -> None:
        if self.kind not in ("adamw", "lamb"):
            raise UserError(f"optimizer.kind must be adamw or lamb, got {self.kind!r}")
        if not self.lr > 0:
            raise UserError(f"optimizer.lr must be positive, got {self.lr}")
        if self.schedule not in ("cosine", "poly"):
            raise UserError(f"optimizer.schedule must be cosine or poly, got {self.schedule!r}")
        if self.resume_schedule not in ("continue", "replan"):
            raise UserError(f"optimizer.resume_schedule must be continue or replan, got {self.resume_schedule!r}")
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


@dataclass
class Schedule:
    """Factor on the peak rate at a step: a linear rise, then decay.

    Its attributes are plain and go into the checkpoint.

    Attributes:
        begin, low: step and factor that the rise starts from.
        start, rate: step and factor that the rise ends at and the decay begins at.
        total: step that the decay ends at.
        kind, power, final: of the decay, see :class:`OptimizerConfig`.
    """

    begin: int
    low: float
    start: int
    rate: float
    total: int
    kind: str
    power: float
    final: float

    @classmethod
    def planned(cls, total: int, config: OptimizerConfig) -> Schedule:
        """The schedule of a fresh run of ``total`` steps."""
        warmup = max(1, round(total * config.warmup_share))
        return cls(0, 0.0, warmup, 1.0, total, config.schedule, config.power, config.final_share)

    def __call__(self, step: int) -> float:
        if step < self.start:
            return self.low + (self.rate - self.low) * (step + 1 - self.begin) / (self.start - self.begin)
        progress = min(1.0, (step - self.start) / max(1, self.total - self.start))
        cosine = self.kind == "cosine"
        decay = 0.5 * (1 + math.cos(math.pi * progress)) if cosine else (1 - progress) ** self.power
        return self.final + (self.rate - self.final) * decay

    def continued(self, step: int, new: Schedule) -> Schedule:
        """This schedule up to ``step``, then on from the rate that it has there to the end of ``new``.

        The rate decays from there. Where it has come down to 0 already it rises first, in as large a share of the steps
        that are left as the warm-up of ``new`` has of its own, to what ``new`` has at that step.
        """
        if (self.total, self.kind, self.power, self.final) == (new.total, new.kind, new.power, new.final):
            return self
        if step < self.start:
            return replace(new, begin=self.begin, low=self.low, start=self.start, rate=self.rate)
        now = self(step)
        if now > 0:
            return replace(new, begin=step, low=now, start=step, rate=now)
        start = step + max(1, round((new.total - step) * new.start / new.total))
        return replace(new, begin=step, low=now, start=start, rate=new(start))


class ResumableSchedule(torch.optim.lr_scheduler.LambdaLR):
    """:class:`Schedule` on an optimizer, with a rule for a resumed run that trains longer or shorter than planned.

    ``continue`` goes on from the rate that the stopped run had, see :meth:`Schedule.continued`; with the same end it is
    the stopped run's schedule, step for step. ``replan`` takes the schedule that a fresh run of the new length would
    have, at the step that was reached: twice the epochs of a finished run begin with a jump to half the peak.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, config: OptimizerConfig, total: int) -> None:
        self._rule = config.resume_schedule
        super().__init__(optimizer, Schedule.planned(total, config))

    def state_dict(self) -> dict[str, Any]:
        return {key: value for key, value in super().state_dict().items() if key != "_rule"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        planned, peaks = self.lr_lambdas[0], self.base_lrs
        assert isinstance(planned, Schedule)
        stored = state_dict["lr_lambdas"][0]
        plain = {key: value for key, value in state_dict.items() if key != "lr_lambdas"}
        super().load_state_dict({**plain, "lr_lambdas": [None] * len(self.lr_lambdas)})
        if self._rule == "continue" and stored is not None:
            schedule = Schedule(**stored).continued(self.last_epoch, planned)
            changed = peaks != self.base_lrs
        else:  # before schedules were stored, replanning was all there was
            schedule, self.base_lrs, changed = planned, peaks, False
        self.lr_lambdas = [schedule] * len(self.lr_lambdas)
        self._last_lr = self.get_rates()
        for group, rate in zip(self.optimizer.param_groups, self._last_lr):
            group["lr"] = rate
        if self.last_epoch >= schedule.total and not any(self._last_lr):
            log.warning("learning rate: 0 from step %d on, for all epochs together have %d steps now: nothing more is "
                        "learned; raise trainer.max_epochs, or give the epochs their old length", self.last_epoch,
                        schedule.total)  # fmt: skip
        rises = f", rises to {max(self.base_lrs) * schedule.rate:.3g} until step {schedule.start}"
        log.info(
            "learning rate: goes on with %.3g after step %d%s, to step %d (optimizer.resume_schedule=%s)%s",
            max(self._last_lr), self.last_epoch, rises if self.last_epoch < schedule.start else "", schedule.total,
            self._rule, "; the new optimizer.lr would need replan" if changed else "",
        )  # fmt: skip

    def get_rates(self) -> list[float]:
        """The rate of each parameter group at the step that was reached."""
        return [peak * schedule(self.last_epoch) for peak, schedule in zip(self.base_lrs, self.lr_lambdas)]
