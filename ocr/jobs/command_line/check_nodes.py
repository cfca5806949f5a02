"""Check every ``_target_`` of a config against the signature that it calls, before anything starts."""

from __future__ import annotations

import inspect
import logging
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hydra.utils import get_object
from lightning.pytorch import Callback
from torch import nn

from ocr.errors import UserError, one_line
from ocr.pipeline import Pipeline
from ocr.training.optim.parameters import OptimizerSettings, make_optimizer
from ocr.training.optim.scaling import KEYS as SCALING_KEYS
from ocr.training.optim.scaling import split_scaling
from ocr.training.optim.schedule import make_scheduler
from ocr.utils.config import instantiate
from ocr.utils.typed import Count, Fraction, NonNegative, faults, is_plain, parameters_of, unknown_setting

# settings whose range no signature states
_RANGES = {
    "data.val_from": Fraction, "data.test_from": Fraction, "data.difficulty": Fraction,
    "optimizer.lr": NonNegative, "optimizer.weight_decay": NonNegative,
    "trainer.check_val_every_n_epoch": Count | None, "trainer.gradient_clip_val": NonNegative | None,
}  # fmt: skip
_METRIC = "it needs the _target_ of an evaluation protocol, or null"
_CALLBACK = "it needs the _target_ of a lightning.pytorch.Callback, or null"


def node_faults(config: Mapping[str, Any]) -> list[str]:
    """Faults of the nodes of a config, plain and resolved, a line each."""
    problems = []
    for path, kind in _RANGES.items():
        group, key = path.split(".")
        if isinstance(node := config.get(group), Mapping) and key in node:
            problems += faults(kind, node[key], path)
    model = config.get("model")
    for path, parent in (("model.pipeline", model), ("fallback_pipeline", config)):
        node = parent.get(path.removeprefix("model.")) if isinstance(parent, Mapping) else None
        problems += _pipeline_faults(node, path) if isinstance(node, Mapping) else []
    problems += _entry_faults(config, "callbacks", _CALLBACK)
    problems += _entry_faults(config, "metrics", _METRIC)
    if isinstance(trainer := config.get("trainer"), Mapping):
        problems += [f"trainer.{key} is missing" for key in ("accelerator", "precision") if key not in trainer]
    for path, node in _targets(config):
        if path == "optimizer":
            node = {key: value for key, value in node.items() if key not in SCALING_KEYS}
        problems += _signature_faults(node, path)
    return list(dict.fromkeys(_as_written(problem, model) for problem in problems))


def check_optimizer(
    optimizer: Mapping[str, Any], schedule: Mapping[str, Any], lr_multipliers: Mapping[str, float]
) -> None:
    """Make optimizer and scheduler once, for a layer of one weight.

    Raises:
        UserError: they or the rule of the learning rate refuse a setting.
    """
    arguments, _ = split_scaling(optimizer)
    settings = OptimizerSettings(instantiate(arguments), instantiate(schedule), lr_multipliers)
    without = OptimizerSettings(settings.optimizer, settings.schedule, {})  # the layer has no such parts
    make_scheduler(make_optimizer(nn.Linear(1, 1), without), settings.schedule, 10)


def _pipeline_faults(node: Mapping[str, Any], path: str) -> list[str]:
    hints = typing.get_type_hints(Pipeline)
    try:
        problems = [fault for key, value in node.items() for fault in faults(hints.get(key), value, f"{path}.{key}")]
        if not problems:
            Pipeline.from_dict(node)
        return problems
    except UserError as error:
        return [str(error)]


def _entry_faults(config: Mapping[str, Any], group: str, needs: str) -> list[str]:
    """Entries of a group that name nothing to make; what is made is looked at by :func:`_signature_faults`."""
    entries = config.get(group)
    if not isinstance(entries, Mapping):
        return []  # the settings say so
    nodes = {f"{group}.{name}": node for name, node in entries.items() if node is not None}
    return [
        f"{path} is no {group.removesuffix('s')}, got {node!r}: {needs}"
        for path, node in nodes.items()
        if not isinstance(node, Mapping) or "_target_" not in node or node.get("_partial_")
    ]


def _targets(node: Any, path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield path, node
        for key, value in node.items():
            yield from _targets(value, f"{path}.{key}" if path else key)
    elif isinstance(node, list):
        for k, value in enumerate(node):
            yield from _targets(value, f"{path}[{k}]")


def _as_written(problem: str, model: Any) -> str:
    """``model.network.backbone`` only refers to ``model.backbone``: a fault there names the latter."""
    words = re.match(r"model\.network\.(\w+)", problem)
    return problem.replace("network.", "", 1) if words and words[1] in model else problem


def _signature_faults(node: Mapping[str, Any], path: str) -> list[str]:
    try:
        target = _locate(node["_target_"])
    except UserError as error:
        return [f"{path}._target_: {error}"]
    # a function tells only when it is called
    other = inspect.isclass(target) and not issubclass(target, Callback)
    if path.count(".") == 1 and path.startswith("callbacks.") and other:
        return [f"{path} is no callback but a {node['_target_']}: {_CALLBACK}"]
    try:
        hints, open_ended = parameters_of(target)
    except ValueError:  # some that are written in C have none
        return []
    problems = []
    for key, value in node.items():
        if key.startswith("_") and key.endswith("_"):
            continue
        if key in hints:
            problems += faults(hints[key], value, f"{path}.{key}")
            if _makes_object(hints[key]) and not (isinstance(value, Mapping) and "_target_" in value):
                problems.append(f"{path}.{key} must be a group of settings with a _target_, got {value!r}")
        elif not open_ended:
            problems.append(unknown_setting(key, hints, f"{path}."))
    return problems


def _makes_object(hint: Any) -> bool:
    """Whether an argument needs an object or a callable, not a plain value."""
    own = inspect.isclass(hint) and hint.__module__.split(".")[0] in ("ocr", "torch")
    return typing.get_origin(hint) is Callable or (own and not is_plain(hint))


def _locate(target: Any) -> Any:
    """The object that a ``_target_`` names, without Hydra's own lines in the log.

    Raises:
        UserError: nothing that can be called.
    """
    hydra_log = logging.getLogger("hydra.utils")
    level = hydra_log.level
    try:
        hydra_log.setLevel(logging.CRITICAL)
        located = get_object(str(target))
    except Exception as error:  # Hydra wraps whatever the import raises
        raise UserError(one_line(error)) from error
    finally:
        hydra_log.setLevel(level)
    if not callable(located):
        raise UserError(f"{target} is a {type(located).__name__}, which cannot be called")
    return located
