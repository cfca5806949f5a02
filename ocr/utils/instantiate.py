"""The one place that makes objects from ``_target_`` nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def instantiate(node: Any, **arguments: Any) -> Any:
    """The object that a config node describes, and those below it; None for None.

    Args:
        node: ``_target_`` and arguments; nodes below it may be in mappings and lists.
        arguments: further arguments, not looked into.

    Raises:
        hydra.errors.InstantiationException: with the cause, when a constructor raises.
    """
    import hydra

    if node is None or (isinstance(node, Mapping) and not node):
        return {} if isinstance(node, Mapping) else None
    return hydra.utils.instantiate(node, _convert_="all", **arguments)
