"""Learning rate for another number of samples per step than the one that it was chosen for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_type_hints

from pydantic import Field

from ocr.errors import UserError
from ocr.utils.typed import Count, faults

KEYS = ("scale_lr", "lr_batch_size")  # of the optimizer's config, which the optimizer itself does not get


@dataclass(frozen=True)
class LrScaling:
    """How the learning rate follows the samples per step.

    Attributes:
        rule: ``linear`` (Goyal et al. 2017), ``sqrt`` (Krizhevsky 2014; You et al. 2020 for LAMB) or ``none``.
        batch_size: samples per step that the learning rate was chosen for, all devices together.
    """

    rule: Annotated[str, Field(pattern="^(linear|sqrt|none)$")] = "none"
    batch_size: Count = 1

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
    arguments = {key: value for key, value in optimizer.items() if key not in KEYS}
    given: dict[str, Any] = {}
    problems: list[str] = []
    for key, (field, hint) in zip(KEYS, get_type_hints(LrScaling, include_extras=True).items(), strict=True):
        if key in optimizer:
            given[field] = optimizer[key]
            problems += faults(hint, optimizer[key], f"optimizer.{key}")
    if problems:
        raise UserError("; ".join(problems))
    return arguments, LrScaling(**given)
