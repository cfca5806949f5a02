"""Overrides of a command line in Hydra's grammar: read and written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

CONFIGS = Path(__file__).resolve().parents[3] / "configs"


def key_of(override: str) -> str:
    """The setting or group that an override is for.

    >>> [key_of(o) for o in ("data=sroie", "+x.y='a=b'", "~callbacks.ema")]
    ['data', 'x.y', 'callbacks.ema']
    """
    return override.split("=", 1)[0].lstrip("+~")


def value_of(override: str) -> Any:
    r"""The value of an override, as plain types; its text where it does not follow Hydra's grammar.

    >>> [value_of(o) for o in ("resume='it\\'s'", "resume=it's", "resume=true", "x=[{a: 1}]")]
    ["it's", "it's", True, [{'a': 1}]]
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_override(override)
        return override.partition("=")[2] if parsed.is_sweep_override() else _unquoted(parsed.value())
    except HydraException:
        return override.partition("=")[2]


def _unquoted(value: Any) -> Any:
    if isinstance(value, dict):
        return {_unquoted(key): _unquoted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unquoted(item) for item in value]
    return getattr(value, "text", value)  # of a QuotedString


def text_of(value: Any) -> str:
    r"""A plain value in Hydra's grammar.

    >>> text_of({"root": "it's [a=b]", "share": [0.0, None, True]})
    "{root:'it\\'s [a=b]',share:[0.0,null,true]}"
    """
    from hydra.core.override_parser.types import Quote, QuotedString

    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{text_of(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(text_of(item) for item in value) + "]"
    if isinstance(value, str):
        return QuotedString(value, Quote.single).with_quotes()
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))


def varies(override: str) -> bool:
    """Whether an override has several values, for the jobs of a sweep.

    >>> varies("seed=1,2"), varies("seed=1"), varies("x=[1,2]")
    (True, False, False)
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return bool(OverridesParser.create().parse_override(override).is_sweep_override())
