"""Hydra and OmegaConf for the layers below the jobs: plain values from a config, objects from those."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ocr.errors import UserError, one_line

MAX_DEPTH = 40  # levels of nesting; an interpolation that contains itself has no end


def instantiate(node: Any, **arguments: Any) -> Any:
    """The object that a node describes, and those below it; None for None.

    Args:
        node: ``_target_`` and arguments; nodes below it may be in mappings and lists.
        arguments: further arguments, not looked into.

    Raises:
        UserError: an interpolation in the node cannot be resolved.
        hydra.errors.InstantiationException: with the cause, when a constructor raises.
    """
    import hydra

    if node is None or (isinstance(node, Mapping) and not node):
        return {} if isinstance(node, Mapping) else None
    try:
        return hydra.utils.instantiate(node, _convert_="all", **arguments)
    except OmegaConfBaseException as error:
        raise UserError(one_line(error)) from error


def plain_config(config: Any) -> dict[str, Any]:
    """A config as nested plain types with text keys, every interpolation resolved that can be.

    A node that cannot be resolved stays as its own text (``${...}``); the others are resolved all the same. Objects
    become their names; NaN and infinity become text, for JSON has none.

    >>> plain_config({"a": 1, "b": "${a}", "c": "${nowhere}", 3: math.inf, "f": len})
    {'a': 1, 'b': 1, 'c': '${nowhere}', '3': 'inf', 'f': 'builtins.len'}
    """
    return _plain(config if OmegaConf.is_config(config) else OmegaConf.create(config, flags={"allow_objects": True}))


def _plain(value: Any, depth: int = 0) -> Any:
    if depth > MAX_DEPTH:
        return str(type(value).__name__)
    if isinstance(value, DictConfig):
        return {str(key): _plain(_resolved(value, key), depth + 1) for key in value}
    if isinstance(value, ListConfig):
        return [_plain(_resolved(value, k), depth + 1) for k in range(len(value))]
    if isinstance(value, Mapping):
        return {str(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, PurePath):
        return str(value)
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def _resolved(parent: DictConfig | ListConfig, key: Any) -> Any:
    if OmegaConf.is_missing(parent, key):
        return "???"
    try:
        return parent[key]
    except Exception:  # any resolver may raise anything; one node less is better than no config
        container: Any = OmegaConf.to_container(parent, resolve=False)
        return str(container[key])
