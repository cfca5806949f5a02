"""Learning rate for another number of samples per step than the one that it was chosen for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any

from pydantic import Field

from ocr.utils.typed import Count, build


@dataclass(frozen=True)
class LrScaling:
    """Scaling of the learning rate with the samples per step; keys of the optimizer's config.

    Attributes:
        scale_lr: ``linear`` (Goyal et al. 2017), ``sqrt`` (Krizhevsky 2014; You et al. 2020 for LAMB) or ``none``.
        lr_batch_size: samples per step that the learning rate was chosen for, all devices together.
    """

    scale_lr: Annotated[str, Field(pattern="^(linear|sqrt|none)$")]
    lr_batch_size: Count

    def factor(self, samples: int) -> float:
        """The factor on the learning rate for that many samples per step.

        >>> LrScaling("linear", 8).factor(32), LrScaling("sqrt", 8).factor(32), LrScaling("none", 8).factor(32)
        (4.0, 2.0, 1.0)
        """
        ratio = samples / self.lr_batch_size
        return {"linear": ratio, "sqrt": math.sqrt(ratio), "none": 1.0}[self.scale_lr]


KEYS = tuple(field.name for field in fields(LrScaling))


def split_scaling(optimizer: Mapping[str, Any]) -> tuple[dict[str, Any], LrScaling | None]:
    """The arguments of an optimizer's config, and the rule beside them; None where it has none.

    Raises:
        UserError: the rule is unknown, or one of its two settings is missing.
    """
    arguments = {key: value for key, value in optimizer.items() if key not in KEYS}
    given = {key: optimizer[key] for key in KEYS if key in optimizer}
    return arguments, build(LrScaling, given, "optimizer") if given else None
