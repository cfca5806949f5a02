"""Learning rate for another number of samples per step than the one that it was chosen for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ocr.errors import UserError

RULES = ("linear", "sqrt", "none")
KEYS = ("scale_lr", "lr_batch_size")  # of the optimizer's config, which the optimizer itself does not get


@dataclass(frozen=True)
class LrScaling:
    """How the learning rate follows the samples per step.

    Attributes:
        rule: ``linear`` (Goyal et al. 2017), ``sqrt`` (Krizhevsky 2014; You et al. 2020 for LAMB) or ``none``.
        batch_size: samples per step that the learning rate was chosen for, all devices together.
    """

    rule: str = "none"
    batch_size: int = 1

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise UserError(f"optimizer.scale_lr must be {', '.join(RULES[:-1])} or {RULES[-1]}, got {self.rule!r}")
        if isinstance(self.batch_size, bool) or not isinstance(self.batch_size, int) or self.batch_size < 1:
            raise UserError(f"optimizer.lr_batch_size must be a whole number from 1, got {self.batch_size!r}")

    def factor(self, samples: int) -> float:
        """On the learning rate, for that many samples per step.

        >>> LrScaling("linear", 8).factor(32), LrScaling("sqrt", 8).factor(32), LrScaling("none", 8).factor(32)
        (4.0, 2.0, 1.0)
        """
        ratio = samples / self.batch_size
        return {"linear": ratio, "sqrt": math.sqrt(ratio), "none": 1.0}[self.rule]


NO_SCALING = LrScaling()


def split_scaling(optimizer: Mapping[str, Any]) -> tuple[dict[str, Any], LrScaling]:
    """The arguments of the optimizer, and the rule beside them; no rule where the config has none.

    Args:
        optimizer: its config.

    Raises:
        UserError: the rule is unknown.
    """
    own = {key: value for key, value in optimizer.items() if key not in KEYS}
    rule, size = (optimizer.get(key, default) for key, default in zip(KEYS, ("none", 1)))
    return own, LrScaling(rule, size)
