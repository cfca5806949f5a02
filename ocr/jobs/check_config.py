"""The whole config checked before anything starts: nothing unknown, nothing of the wrong kind."""

from __future__ import annotations

import inspect
import logging
import math
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig

from ocr.errors import UserError, one_line
from ocr.pipeline import Pipeline
from ocr.tracking.record import plain_config
from ocr.tracking.schema import check_logger, unknown_setting
from ocr.training.optim.parameters import OptimizerSettings, make_optimizer
from ocr.training.optim.schedule import make_scheduler
from ocr.utils.instantiate import instantiate

# what a job's own settings must be: their kind, the least and the most
_OWN: dict[str, tuple[Any, float, float]] = {
    "seed": (int, 0, 2**32 - 1),
    "test": (bool, 0, 1),
    "tune": (bool, 0, 1),
    "overlays": (bool | int, 0, math.inf),
    "batch_size": (int, 1, math.inf),
    "images": (int, 1, math.inf),
    "calibration_images": (int, 1, math.inf),
    "max_loss": (float, 0, 1),
    "count": (int, 1, math.inf),
    "difficulty": (float, 0, 1),
    "repeats": (int, 1, math.inf),
    "steps": (int, 1, math.inf),
    "budget": (float, 0, math.inf),
    "data.val_from": (float, 0, 1),
    "data.test_from": (float, 0, 1),
    "data.difficulty": (float, 0, 1),
    "optimizer.lr": (float, 0, math.inf),
    "optimizer.weight_decay": (float, 0, math.inf),
}
_CALLBACK = "it needs the _target_ of a lightning.pytorch.Callback, or null"
_SIMPLE = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def validate(config: DictConfig) -> None:
    """Check a composed config against what it will build: dataclasses, and the signature of every ``_target_``.

    Raises:
        UserError: all problems, in one line.
    """
    plain = plain_config(config)
    problems: list[str] = []
    for check in (lambda: _check_own(plain), lambda: _check_logger(plain), lambda: _check_dataclasses(plain)):
        try:
            check()
        except UserError as error:
            problems.append(str(error))
    problems += _check_callbacks(plain.get("callbacks") or {})
    for path, node in _targets(plain):
        problems += _check_signature(path, node)
    if problems:
        raise UserError("; ".join(problems))
    _check_optimizer(plain)


def _check_own(plain: Mapping[str, Any]) -> None:
    problems = []
    groups = {group: plain.get(group) or {} for group in ("data", "optimizer")}
    own = plain | {f"{group}.{key}": value for group, node in groups.items() for key, value in node.items()}
    for key, (kind, least, most) in _OWN.items():
        if key in own and (words := _misfit(kind, own[key])) is not None:
            problems.append(f"{key} must be {words}, got {own[key]!r}")
        elif key in own and not least <= own[key] <= most:
            limits = f"at least {least}" if most == math.inf else f"in {least}..{most}"
            problems.append(f"{key} must be {limits}, got {own[key]!r}")
    trusted = plain.get("trusted_targets", [])
    if not isinstance(trusted, list) or not all(isinstance(name, str) for name in trusted):
        problems.append(f"trusted_targets must be a list of names, e.g. [package.Class], got {trusted!r}")
    name = PurePath(plain.get("name", "run"))  # of a folder of runs
    if not name.parts or name.is_absolute() or ".." in name.parts:
        problems.append(f"name must be the name of a folder within paths.output, got {plain['name']!r}")
    if problems:
        raise UserError("; ".join(problems))


def _check_optimizer(plain: Mapping[str, Any]) -> None:
    """Make optimizer and scheduler once, for a layer of one weight."""
    if "optimizer" not in plain:
        return
    from torch import nn

    settings = OptimizerSettings(
        instantiate(plain["optimizer"]), instantiate(plain["schedule"]), plain["lr_multipliers"] or {}
    )
    make_scheduler(make_optimizer(nn.Linear(1, 1), replace(settings, lr_multipliers={})), settings.schedule, 10)


def _check_logger(plain: Mapping[str, Any]) -> None:
    if "logger" in plain:
        check_logger(plain["logger"])


def _check_dataclasses(plain: Mapping[str, Any]) -> None:
    for path, node in (
        ("model.pipeline", (plain.get("model") or {}).get("pipeline")),
        ("fallback_pipeline", plain.get("fallback_pipeline")),
    ):
        if node:
            _check_kinds(Pipeline, path, node)
            Pipeline.from_dict(node)


def _check_callbacks(callbacks: Any) -> list[str]:
    """Entries that name nothing to make; what is made is looked at by :func:`_check_signature`."""
    if not isinstance(callbacks, Mapping):
        return [f"callbacks must be settings by name, got {callbacks!r}"]
    nodes = {f"callbacks.{name}": node for name, node in callbacks.items() if node is not None}
    return [
        f"{path} is no callback, got {node!r}: {_CALLBACK}"
        for path, node in nodes.items()
        if not isinstance(node, Mapping) or "_target_" not in node or node.get("_partial_")
    ]


def _makes_callbacks(target: Any) -> bool:
    """Whether it may: only calling a function tells."""
    from lightning.pytorch import Callback

    return issubclass(target, Callback) if inspect.isclass(target) else True


def _locate(target: Any) -> Any:
    """What a ``_target_`` names, without Hydra's own lines in the log.

    Raises:
        UserError: nothing that can be called.
    """
    hydra_log = logging.getLogger("hydra.utils")
    level = hydra_log.level
    try:
        hydra_log.setLevel(logging.CRITICAL)
        found = get_object(str(target))
    except Exception as error:  # Hydra wraps whatever the import raises
        raise UserError(one_line(error)) from error
    finally:
        hydra_log.setLevel(level)
    if not callable(found):
        raise UserError(f"{target} is a {type(found).__name__}, which cannot be called")
    return found


def _check_kinds(dataclass: type, path: str, node: Mapping[str, Any]) -> None:
    hints = typing.get_type_hints(dataclass)
    misfits = {key: _misfit(hints.get(key), value) for key, value in node.items()}
    problems = [f"{path}.{k} must be {words}, got {node[k]!r}" for k, words in misfits.items() if words is not None]
    if problems:
        raise UserError("; ".join(problems))


def _targets(node: Any, path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield path, node
        for key, value in node.items():
            yield from _targets(value, f"{path}.{key}" if path else key)
    elif isinstance(node, list):
        for k, value in enumerate(node):
            yield from _targets(value, f"{path}[{k}]")


def _check_signature(path: str, node: Mapping[str, Any]) -> list[str]:
    try:
        target = _locate(node["_target_"])
    except UserError as error:
        return [f"{path}._target_: {error}"]
    if path.count(".") == 1 and path.startswith("callbacks.") and not _makes_callbacks(target):
        return [f"{path} is no callback but a {node['_target_']}: {_CALLBACK}"]
    function = target.__init__ if inspect.isclass(target) else target
    try:
        parameters = inspect.signature(target).parameters
    except ValueError:  # some that are written in C have none
        return []
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # names that exist for type checkers only
        hints = {}
    problems = []
    for key, value in node.items():
        if key.startswith("_") and key.endswith("_"):
            continue
        if key not in parameters:
            if not open_ended:
                problems.append(unknown_setting(key, [p for p in parameters if p != "self"], f"{path}."))
        elif (words := _misfit(hints.get(key), value)) is not None:
            problems.append(f"{path}.{key} must be {words}, got {value!r}")
    return problems


def _misfit(hint: Any, value: Any) -> str | None:
    """What a value should be and is not; None when it fits, or when the annotation is not of simple kinds."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    kinds = typing.get_args(hint) if union else (hint,)
    if value is None and type(None) in kinds:
        return None
    others = [kind for kind in kinds if kind is not type(None)]
    if len(others) == 1 and typing.get_origin(others[0]) in (list, tuple, Sequence):
        return _list_misfit(others[0], value)
    if len(others) == 1 and typing.get_origin(others[0]) is dict and isinstance(value, Mapping):
        kind = typing.get_args(others[0])[1]
        misfits = {key: _misfit(kind, item) for key, item in value.items()}
        return next(
            (f"settings of which {key} is {words}" for key, words in misfits.items() if words is not None), None
        )
    if not kinds or not all(kind in _SIMPLE or kind is type(None) for kind in kinds):
        return None
    if value is None or (isinstance(value, str) and str not in kinds):
        fits = value is None and type(None) in kinds
    elif isinstance(value, bool):
        fits = bool in kinds
    elif isinstance(value, int):
        fits = int in kinds or float in kinds
    else:
        fits = type(value) in kinds
    return None if fits else " or ".join(_SIMPLE.get(kind, "null") for kind in kinds)


def _list_misfit(hint: Any, value: Any) -> str | None:
    kinds = typing.get_args(hint)
    count = len(kinds) if typing.get_origin(hint) is tuple and Ellipsis not in kinds else None
    if isinstance(value, (list, tuple)) and count in (None, len(value)):
        misfits = [_misfit(kind, v) for kind, v in zip(kinds if count else kinds[:1] * len(value), value, strict=True)]
        words = next((words for words in misfits if words is not None), None)
        return words and f"a list in which each value is {words}"
    return "a list like [a,b]" if count is None else f"a list of {count} values"
