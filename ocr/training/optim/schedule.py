"""Learning rate per step: linear warm-up, then cosine or polynomial decay, with rules for a resumed run."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from ocr.errors import UserError, first_line

log = logging.getLogger(__name__)
STEP_ARGUMENTS = ("total_steps", "T_max", "total_iters")  # of torch's schedulers: the length of the training


def make_scheduler(
    optimizer: torch.optim.Optimizer, schedule: Callable[..., torch.optim.lr_scheduler.LRScheduler], steps: int
) -> dict[str, Any]:
    """The scheduler as Lightning takes it.

    A scheduler with one of :data:`STEP_ARGUMENTS` gets the number of training steps there, unless the config gives it,
    and moves per step. Others, such as ``StepLR``, move per epoch.

    Args:
        schedule: makes the scheduler from the optimizer, a ``functools.partial``.
        steps: of the whole training.

    Raises:
        UserError: the scheduler refuses a setting.
    """
    names = [name for name in STEP_ARGUMENTS if name in inspect.signature(schedule).parameters]
    given = getattr(schedule, "keywords", {})
    try:
        scheduler = schedule(optimizer, **{name: steps for name in names if name not in given})
    except Exception as error:  # schedulers refuse arguments in many ways
        raise UserError(f"schedule: {first_line(error)}") from error
    return {"scheduler": scheduler, "interval": "step" if names else "epoch"}


@dataclass
class Schedule:
    """Factor on the peak rate at a step: a linear rise, then decay.

    Its attributes are plain and go into the checkpoint.

    Attributes:
        begin, low: step and factor that the rise starts from.
        start, rate: step and factor that the rise ends at and the decay begins at.
        total: step that the decay ends at.
        kind: of the decay, ``cosine`` or ``poly``.
        power: of ``poly``.
        final: factor at the end.
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
    def planned(cls, total: int, kind: str, power: float, warmup_fraction: float, final: float) -> Schedule:
        """The schedule of a fresh run of ``total`` steps."""
        return cls(0, 0.0, max(1, round(total * warmup_fraction)), 1.0, total, kind, power, final)

    def __call__(self, step: int) -> float:
        if step < self.start:
            return self.low + (self.rate - self.low) * (step + 1 - self.begin) / (self.start - self.begin)
        progress = min(1.0, (step - self.start) / max(1, self.total - self.start))
        cosine = self.kind == "cosine"
        decay = 0.5 * (1 + math.cos(math.pi * progress)) if cosine else (1 - progress) ** self.power
        return self.final + (self.rate - self.final) * decay

    def continued(self, step: int, new: Schedule) -> Schedule:
        """This schedule up to ``step``, then on from the rate that it has there to the end of ``new``.

        A warm-up that ends before the new end is finished; otherwise the rate decays from there. Where it has come down
        to 0 already it rises first, in as large a share of the steps that are left as the warm-up of ``new`` has of its
        own, to what ``new`` has at that step.
        """
        if (self.total, self.kind, self.power, self.final) == (new.total, new.kind, new.power, new.final):
            return self
        if step < self.start < new.total:
            return replace(new, begin=self.begin, low=self.low, start=self.start, rate=self.rate)
        now = self(step)
        if now > 0:
            return replace(new, begin=step, low=now, start=step, rate=now)
        start = step + max(1, round((new.total - step) * new.start / new.total))
        return replace(new, begin=step, low=now, start=start, rate=new(start))


class WarmupDecay(torch.optim.lr_scheduler.LambdaLR):
    """:class:`Schedule` on an optimizer, with a rule for a resumed run that trains longer or shorter than planned.

    Args:
        optimizer: whose learning rates are the peaks.
        total_steps: of the training.
        decay: ``cosine`` or ``poly``.
        power: of ``poly`` (0.9 in DB).
        warmup_fraction: of all steps, in which the rate rises from 0, 0..1.
        final_fraction: of the peak rate at the end, 0..1.
        on_resume: ``continue`` goes on from the rate that the stopped run had, see :meth:`Schedule.continued`; with
            the same end it is the stopped run's schedule, step for step. ``replan`` takes the schedule of a fresh run
            of the new length, at the step that was reached: twice the epochs of a finished run begin with a jump to
            half the peak.

    Raises:
        UserError: a setting is out of range.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        total_steps: int,
        decay: str,
        power: float,
        warmup_fraction: float,
        final_fraction: float,
        on_resume: str,
    ) -> None:
        if decay not in ("cosine", "poly"):
            raise UserError(f"schedule.decay must be cosine or poly, got {decay!r}")
        if on_resume not in ("continue", "replan"):
            raise UserError(f"schedule.on_resume must be continue or replan, got {on_resume!r}")
        for name, value in (("warmup_fraction", warmup_fraction), ("final_fraction", final_fraction)):
            if not 0 <= value <= 1:
                raise UserError(f"schedule.{name} must lie in 0..1, got {value}")
        self._on_resume = on_resume
        super().__init__(optimizer, Schedule.planned(total_steps, decay, power, warmup_fraction, final_fraction))

    def state_dict(self) -> dict[str, Any]:
        return {key: value for key, value in super().state_dict().items() if key != "_on_resume"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        schedule, peaks = self.lr_lambdas[0], self.base_lrs
        assert isinstance(schedule, Schedule)
        planned = replace(schedule)
        super().load_state_dict(state_dict)  # the schedule becomes the stored one
        # before schedules were stored, replanning was all there was
        replans = self._on_resume == "replan" or state_dict["lr_lambdas"][0] is None
        changed = peaks != self.base_lrs and not replans
        if replans:
            schedule, self.base_lrs = planned, peaks
        else:
            schedule = schedule.continued(self.last_epoch, planned)
        self.lr_lambdas = [schedule] * len(self.lr_lambdas)
        self._last_lr = [peak * schedule(self.last_epoch) for peak in self.base_lrs]
        for group, rate in zip(self.optimizer.param_groups, self._last_lr):
            group["lr"] = rate
        if self.last_epoch >= schedule.total and not any(self._last_lr):
            log.warning("learning rate: 0 from step %d on, for all epochs together have %d steps now: nothing more is "
                        "learned; raise trainer.max_epochs, or give the epochs their old length", self.last_epoch,
                        schedule.total)  # fmt: skip
        rises = f", rises to {max(self.base_lrs) * schedule.rate:.3g} until step {schedule.start}"
        log.info(
            "learning rate: goes on with %.3g after step %d%s, to step %d (schedule.on_resume=%s)%s",
            max(self._last_lr), self.last_epoch, rises if self.last_epoch < schedule.start else "", schedule.total,
            self._on_resume, "; the new optimizer.lr would need replan" if changed else "",
        )  # fmt: skip
