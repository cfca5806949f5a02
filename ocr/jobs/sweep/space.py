"""A search space from overrides with several values, in Hydra's own grammar."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException

from ocr.errors import UserError, one_line
from ocr.jobs.command_line.overrides import key_of

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def split_overrides(overrides: Sequence[Override]) -> tuple[list[str], list[Override]]:
    """Overrides with one value, as text, and those with several.

    They keep their order. Where a key has both, its last override says which counts. Those of ``sweep`` are left out.
    """
    keyed = [(key_of(str(override.input_line)), override) for override in overrides]
    keyed = [(key, o) for key, o in keyed if key.split(".")[0] != "sweep" and not key.startswith("sweep/")]
    varies = {key: override.is_sweep_override() for key, override in keyed}  # by the last one
    single = [str(o.input_line) for key, o in keyed if not o.is_sweep_override() and not varies[key]]
    several = {key: o for key, o in keyed if o.is_sweep_override() and varies[key]}
    return single, [*several.values()]


def parse(lines: Sequence[str], parser: OverridesParser) -> list[Override]:
    """Overrides of ``sweep.space``.

    Raises:
        UserError: one cannot be read, or has one value only.
    """
    try:
        parsed = parser.parse_overrides(list(lines))
    except HydraException as error:
        raise UserError(f"sweep.space: {one_line(error)}") from error
    for override in parsed:
        if not override.is_sweep_override():
            raise UserError(f"sweep.space: {override.input_line} has one value; it belongs on the command line")
    return parsed


def distribution_of(override: Override) -> BaseDistribution:
    """The distribution of a setting: ``a,b``, ``choice`` and ``glob`` are texts, ``range`` and ``interval`` numbers.

    The tag ``log`` makes an interval logarithmic: ``tag(log,interval(1e-4,1e-2))``; ``int(interval(1,8))`` has whole
    numbers.

    Raises:
        UserError: it is empty, or logarithmic from 0.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value: Any = override.value()
    try:
        if isinstance(value, IntervalSweep):
            low, high = value.start, value.end
            assert low is not None
            assert high is not None
            whole = isinstance(low, int) and isinstance(high, int)
            return (IntDistribution if whole else FloatDistribution)(low, high, log="log" in value.tags)  # type: ignore[arg-type]
        if isinstance(value, RangeSweep):
            numbers = [*value.range()]
            if not numbers:
                raise UserError(f"{override.input_line}: it has no values")
            if all(isinstance(number, int) for number in numbers):
                return IntDistribution(min(numbers), max(numbers), step=abs(int(value.step)))
        return CategoricalDistribution([*dict.fromkeys(override.sweep_string_iterator())])
    except (ValueError, HydraException) as error:
        raise UserError(f"{override.input_line}: {one_line(error)}") from error


def grid_cells(space: Mapping[str, BaseDistribution]) -> list[dict[str, Any]]:
    """Every combination of the values of a space, the last setting varying fastest.

    Raises:
        UserError: a setting is an interval.
    """
    from optuna.distributions import CategoricalDistribution, IntDistribution

    values: list[Sequence[Any]] = []
    for key, distribution in space.items():
        if isinstance(distribution, CategoricalDistribution):
            values.append(distribution.choices)
        elif isinstance(distribution, IntDistribution) and not distribution.log:
            values.append(range(distribution.low, distribution.high + 1, distribution.step))
        else:
            raise UserError(f"{key} is an interval: a grid needs single values, {key}=a,b,c")
    return [dict(zip(space, cell)) for cell in itertools.product(*values)]
