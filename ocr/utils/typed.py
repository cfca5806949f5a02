"""Typed settings from plain values: pydantic checks them, the messages name the setting as the command line does."""

from __future__ import annotations

import difflib
import inspect
import json
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from ocr.errors import UserError

T = TypeVar("T")
CLOSED = ConfigDict(extra="forbid")  # __pydantic_config__ of a dataclass that knows all its settings
# a name that is typed as 2024 is text
Text = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, (int, float)) else value)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Probability = Annotated[float, Field(gt=0, lt=1)]
Auto = Annotated[str, Field(pattern="^(auto)$")]  # a pattern and no Literal, for those of Lightning know no "auto"
Seed = Annotated[int, Field(ge=0, lt=2**32)]

_WORDS = {
    "bool_type": "true or false", "int_type": "a whole number", "int_from_float": "a whole number",
    "float_type": "a number", "string_type": "text", "list_type": "a list like [a,b]",
    "tuple_type": "a list like [a,b]", "dict_type": "a group of settings", "dataclass_type": "a group of settings",
    "literal_error": "{expected}", "string_pattern_mismatch": "{pattern}",
    "greater_than_equal": "at least {ge}", "greater_than": "more than {gt}",
    "less_than_equal": "at most {le}", "less_than": "less than {lt}", "missing": "a longer list",
    "too_long": "a list of at most {max_length} values", "too_short": "a list of at least {min_length} values",
}  # fmt: skip


def build(kind: type[T], values: Any, path: str = "") -> T:
    """Typed settings from plain values.

    Args:
        kind: a dataclass. A whole number fits a float; nothing else is converted.
        values: plain and resolved.
        path: where the values stand in the config, for the messages.

    Raises:
        UserError: settings are unknown, missing, of the wrong kind or out of range; all are named.
    """
    try:
        return TypeAdapter(kind).validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        raise UserError("; ".join(_in_words(error, kind, values, path))) from None


def faults(kind: Any, value: Any, path: str) -> list[str]:
    """Faults of one value, in words; none where the annotation is not of plain kinds."""
    if not is_plain(kind):
        return []
    try:
        TypeAdapter(kind).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        return _in_words(error, kind, value, path)
    return []


def unknown_setting(key: str, known: Iterable[str], prefix: str = "") -> str:
    """The words for a setting that does not exist, with the nearest that does.

    >>> unknown_setting("recal", ["recall", "seconds"], "logger.")
    "there is no setting 'logger.recal', did you mean 'logger.recall'?"
    """
    close = difflib.get_close_matches(key, list(known), n=1, cutoff=0.6)
    hint = f", did you mean {prefix + close[0]!r}?" if close else f" (there are: {', '.join(known)})"
    return f"there is no setting {prefix + key!r}{hint}"


def is_plain(kind: Any) -> bool:
    """Whether an annotation has nothing but booleans, numbers, text, null, and lists and mappings of these."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return is_plain(arguments[0])
    if origin in (typing.Union, types.UnionType, list, tuple, dict, Sequence, Mapping):
        return all(argument is Ellipsis or is_plain(argument) for argument in arguments)
    return kind in (bool, int, float, str, types.NoneType, Any)


def parameters_of(target: Any) -> tuple[dict[str, Any], bool]:
    """Annotations of what a class or function takes by name, None where there are none; whether it takes other names.

    Raises:
        ValueError: it has no signature, as some that are written in C.
    """
    parameters = inspect.signature(target).parameters.values()
    try:
        hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target, include_extras=True)
    except Exception:  # names that exist for type checkers only
        hints = {}
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return {name: hints.get(name) for name in named}, any(p.kind is p.VAR_KEYWORD for p in parameters)


def _in_words(error: ValidationError, kind: Any, values: Any, prefix: str) -> list[str]:
    """A line per setting; of a union, whose members fail one by one, what each of them would be."""
    lines: dict[str, Any] = {}
    for fault in error.errors(include_url=False):
        path, value, rest = _walk(values, fault["loc"], prefix)
        if fault["type"] == "unexpected_keyword_argument":
            key, known = str(fault["loc"][-1]), _names(kind, fault["loc"][:-1])
            lines[path] = unknown_setting(key, known, path.removesuffix(key))
        elif fault["type"] == "missing" and isinstance(rest, str):
            lines[f"{path}.{rest}"] = f"{path}.{rest} is missing".lstrip(".")
        else:
            context = {k: f"{v:g}" if isinstance(v, (int, float)) else v for k, v in fault.get("ctx", {}).items()}
            expected = context.get("expected", "").replace("'", "").replace(" or ", ", ")
            context["expected"] = f"one of {expected}" if "," in expected else expected
            choices = str(context.get("pattern", "")).strip("^()$").split("|")
            context["pattern"] = f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0]
            words = _WORDS.get(fault["type"], fault["msg"].removeprefix("Value error, ")).format(**context)
            known_words, _ = lines.setdefault(path, ([], value))
            known_words.extend([words] if words not in known_words else [])
    return [
        line if isinstance(line, str) else f"{path} must be {' or '.join(line[0])}, got {line[1]!r}"
        for path, line in lines.items()
    ]


def _walk(values: Any, location: Sequence[str | int], path: str) -> tuple[str, Any, str | int | None]:
    """Follow a location: its path, its value, and the part (a union's member, a missing key) that leaves the values."""
    for part in location:
        inside = isinstance(values, Mapping) and part in values
        inside |= isinstance(values, list) and isinstance(part, int) and part < len(values)
        if not inside:
            return path, values, part
        values = values[part]
        path = f"{path}[{part}]" if isinstance(part, int) else f"{path}.{part}".lstrip(".")
    return path, values, None


def _names(kind: Any, location: Sequence[str | int]) -> list[str]:
    """The settings of the dataclass at a location."""
    for part in location:
        kind = typing.get_type_hints(kind)[str(part)]
    return [f.name for f in fields(kind)]
