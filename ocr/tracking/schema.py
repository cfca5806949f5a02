"""The logger's config, checked before a run starts: kinds, ranges, misspellings."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar, Literal

from ocr.errors import UserError

POSITIVE = (0.0, float("inf"))


@dataclass
class Switch:
    """``logger.wandb``."""

    enabled: bool


@dataclass
class PerBatchImages:
    """``logger.per_batch_image_logging``."""

    enabled: bool
    recall_threshold: float
    max_batches: int
    max_images: int
    max_side: int
    seconds: float
    table_rows: int

    RANGES: ClassVar = {
        "recall_threshold": (0.0, 1.0), "max_batches": (0, 1000), "max_images": (1, 108), "max_side": (32, 8192),
        "seconds": POSITIVE, "table_rows": (0, 10_000),
    }  # fmt: skip


@dataclass
class Artifacts:
    """``logger.artifacts``."""

    checkpoints: Literal["end", "best", "none"]
    dataset: bool
    keep: int

    RANGES: ClassVar = {"keep": (0, 1000)}


@dataclass
class LoggerConfig:
    """``logger``. The values stand in ``configs/logger/wandb.yaml``."""

    wandb: Switch
    project_name: str
    entity: str | None
    user: str | None
    exp_version: str | None
    run_name: str | None
    offline: bool | None
    tags: list[str]
    group: str | None
    job_type: str | None
    notes: str | None
    save_dir: str
    resume: bool
    hostname: bool
    private: bool
    init_timeout: float
    finish_timeout: float
    transmit_interval: int
    system_metrics_interval: float
    artifacts: Artifacts
    per_batch_image_logging: PerBatchImages

    RANGES: ClassVar = {
        "init_timeout": (1.0, 3600.0), "finish_timeout": (1.0, 86_400.0), "transmit_interval": (1, 3600),
        "system_metrics_interval": POSITIVE,
    }  # fmt: skip


def check_logger(config: Mapping[str, Any]) -> LoggerConfig:
    """The logger's config as typed objects.

    Args:
        config: plain and resolved.

    Raises:
        UserError: one or several settings are unknown, missing, of the wrong kind or out of range; all are named.
    """
    problems: list[str] = []
    checked = _build(LoggerConfig, config, "logger", problems)
    if problems:
        raise UserError("; ".join(problems))
    return checked


def unknown_setting(key: str, known: typing.Iterable[str], prefix: str = "") -> str:
    """The words for a setting that does not exist, with the nearest that does.

    >>> unknown_setting("recal", ["recall", "seconds"], "logger.")
    "there is no setting 'logger.recal', did you mean 'logger.recall'?"
    """
    close = difflib.get_close_matches(key, list(known), n=1, cutoff=0.6)
    hint = f", did you mean {prefix + close[0]!r}?" if close else f" (there are: {', '.join(known)})"
    return f"there is no setting {prefix + key!r}{hint}"


def _build(kind: type, node: Any, path: str, problems: list[str]) -> Any:
    if not isinstance(node, Mapping):
        problems.append(f"{path} must be a group of settings, not {node!r}")
        return None
    wanted = typing.get_type_hints(kind)
    names = [f.name for f in fields(kind)]
    problems += [unknown_setting(key, names, f"{path}.") for key in node if key not in names]
    values = {}
    for name in names:
        place = f"{path}.{name}"
        if name not in node:
            problems.append(f"{place} is missing")
            continue
        values[name] = _value(wanted[name], node[name], place, problems)
        low, high = getattr(kind, "RANGES", {}).get(name, (None, None))
        number = isinstance(values[name], (int, float)) and not isinstance(values[name], bool)
        if low is not None and number and not low <= values[name] <= high:
            bounds = f"{low:g} or more" if high == float("inf") else f"in {low:g}..{high:g}"
            problems.append(f"{place} must be {bounds}, got {values[name]:g}")
    return None if set(values) != set(names) else kind(**values)


def _value(wanted: Any, value: Any, path: str, problems: list[str]) -> Any:
    if is_dataclass(wanted):
        return _build(wanted, value, path, problems)
    if typing.get_origin(wanted) is types.UnionType:
        if value is None:
            return None
        wanted = next(kind for kind in typing.get_args(wanted) if kind is not types.NoneType)
    if typing.get_origin(wanted) is Literal:
        allowed = typing.get_args(wanted)
        if value not in allowed:
            problems.append(f"{path} must be one of {', '.join(allowed)}, got {value!r}")
        return value
    if typing.get_origin(wanted) is list:
        if not isinstance(value, (list, tuple)):
            problems.append(f"{path} must be a list like [a,b], got {value!r}")
            return value
        return [str(item) for item in value]
    if wanted is str:
        if isinstance(value, (Mapping, list)) or value is None:
            problems.append(f"{path} must be text, got {value!r}")
        return str(value)
    fits = {
        bool: isinstance(value, bool),
        int: isinstance(value, int) and not isinstance(value, bool),
        float: isinstance(value, (int, float)) and not isinstance(value, bool),
    }[wanted]
    if not fits:
        words = {bool: "true or false", int: "a whole number", float: "a number"}[wanted]
        problems.append(f"{path} must be {words}, got {value!r}")
    return value
