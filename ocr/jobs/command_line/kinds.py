"""Kind of value that a setting takes, from the signature of its ``_target_`` or from the settings of its job."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

from hydra.utils import get_object
from pydantic import TypeAdapter

from ocr.utils.typed import is_plain, parameters_of

NAMES = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "text",
         "array": "a list", "object": "a mapping", "null": "null"}  # fmt: skip
LIMITS = {"minimum": "from {}", "exclusiveMinimum": "above {}", "maximum": "to {}", "exclusiveMaximum": "below {}"}


def schema_of_node(node: Any) -> dict[str, Any]:
    """JSON schema of a config node: the arguments of its ``_target_`` where it has one, else its keys."""
    if not isinstance(node, Mapping):
        return {}
    below = {key: schema_of_node(value) for key, value in node.items() if isinstance(value, Mapping)}
    if "_target_" not in node:
        return {"type": "object", "properties": {key: below.get(key, {}) for key in node}}
    hints, open_ended = parameters_of(get_object(str(node["_target_"])))
    properties: dict[str, Any] = {"_target_": {"type": "string"}, "_partial_": {"type": "boolean"}}
    properties |= {name: below.get(name) or schema_of_hint(hint) for name, hint in hints.items()}
    return {"type": "object", "properties": properties, "additionalProperties": open_ended}


def schema_of_hint(hint: Any) -> dict[str, Any]:
    """JSON schema of an annotation of plain kinds; empty for others."""
    if hint is None or is_dataclass(hint) or not is_plain(hint):
        return {}
    return TypeAdapter(hint).json_schema()


def kind_of(name: str, config: Mapping[str, Any], settings: type) -> str:
    """The kind of value that a setting takes, in words; empty where nothing says so.

    Args:
        name: with dots.
        config: of the job, plain.
        settings: class of the job's settings, whose fields are named as in the config.
    """
    hint: Any = settings
    node: Any = config
    schema: dict[str, Any] = {}
    for part in name.split("."):
        if is_dataclass(hint):
            hint = typing.get_type_hints(hint, include_extras=True).get(part)
            schema = {} if hint is None or is_dataclass(hint) else TypeAdapter(hint).json_schema()
        else:
            schema = schema_of_node(node).get("properties", {}).get(part, {})
            hint = None
        node = node.get(part) if isinstance(node, Mapping) else None
    plain = {bool: "boolean", int: "integer", float: "number"}.get(type(node), "")
    return in_words(schema) or NAMES.get(plain, "")


def in_words(schema: Mapping[str, Any]) -> str:
    """A JSON schema of a plain value in words.

    >>> in_words({"anyOf": [{"type": "integer", "minimum": 0, "exclusiveMaximum": 9}, {"const": "auto"}]})
    'a whole number from 0 below 9, or auto'
    """
    if "anyOf" in schema:
        return ", or ".join(dict.fromkeys(filter(None, map(in_words, schema["anyOf"]))))
    if "enum" in schema or "const" in schema:
        return " or ".join(str(value) for value in schema.get("enum", [schema.get("const")]))
    if (pattern := schema.get("pattern", "")).startswith("^("):
        return str(pattern[2:-2]).replace("|", " or ")
    limits = [words.format(schema[key]) for key, words in LIMITS.items() if key in schema]
    return " ".join([NAMES.get(str(schema.get("type")), ""), *limits]).strip()
