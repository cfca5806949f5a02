"""Classes that a file may name: objects that a checkpoint or a stopped run's settings build run as code.

Hydra finds ``_target_`` by walking attributes, so the name of a module of ours reaches whatever that module imports
(``ocr.jobs.build.torch.hub.load``). A name is therefore compared whole, with lists that are computed here.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from ocr.errors import UserError
from ocr.migrations import migrate_network

NETWORK_FOLDERS = ("ocr.models.backbones", "ocr.models.necks", "ocr.models.heads")
NETWORK_MODULES = ("ocr.models.detector", "ocr.models.onnx.graph")
TARGET = "_target_"
MAX_DEPTH = 40
PLAIN = (str, int, float, bool, type(None))


@functools.cache
def network_classes() -> frozenset[str]:
    """Names of the ``nn.Module`` subclasses that are defined in the folders of backbones, necks, heads and detectors.

    >>> sorted(name.rpartition(".")[2] for name in network_classes() if "heads" in name)
    ['DBHead', 'MapHead']
    """
    from torch import nn

    modules = list(NETWORK_MODULES)
    for folder in NETWORK_FOLDERS:
        modules += [m.name for m in pkgutil.iter_modules(importlib.import_module(folder).__path__, f"{folder}.")]
    classes = set()
    for name in modules:
        for attribute, value in vars(importlib.import_module(name)).items():
            if inspect.isclass(value) and issubclass(value, nn.Module):
                target = f"{name}.{attribute}"
                if f"{value.__module__}.{value.__qualname__}" == target:
                    classes.add(target)
    return frozenset(classes)


def targets_in(node: Any) -> Iterator[Any]:
    """The values of all keys ``_target_`` in nested plain data, whatever they are."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == TARGET:
                yield value
            yield from targets_in(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from targets_in(value)


def check_targets(node: Any, allowed: Collection[str], source: str) -> None:
    """Refuse nested plain data that would build something else than what is allowed.

    Args:
        allowed: names of classes and functions.
        source: where the data comes from, the beginning of the message.

    Raises:
        UserError: a ``_target_`` is not allowed.
    """
    for target in targets_in(node):
        if not isinstance(target, str) or target not in allowed:
            shown = str(target)[:80]
            raise UserError(
                f"{source} wants to run {shown!r}, which is nothing that a file may name: it was not run (if you trust "
                f"it: trusted_targets=[{shown}])"
            )


def stored_network(node: Any, path: Path, trusted: Collection[str] = ()) -> Any:
    """A checkpoint's description of its network with today's names, refused unless building it can do nothing else.

    Raises:
        UserError: it names a class that is neither in :func:`network_classes` nor in ``trusted``, has a ``${...}``,
            which may read the environment or make a node, or something that is not plain.
    """
    _check_plain(node, path)
    node = migrate_network(node)
    check_targets(node, network_classes() | set(trusted), str(path))
    return node


def _check_plain(node: Any, path: Path, depth: int = 0) -> None:
    if depth > MAX_DEPTH:  # it may contain itself
        raise UserError(f"{path}: its network is nested more than {MAX_DEPTH} deep: not loaded")
    if isinstance(node, Mapping):
        for key, value in node.items():
            _check_plain(key, path, depth + 1)
            _check_plain(value, path, depth + 1)
    elif isinstance(node, (list, tuple)):
        for value in node:
            _check_plain(value, path, depth + 1)
    elif type(node) not in PLAIN:
        raise UserError(f"{path}: its network holds a {type(node).__name__}, which is no plain value: not loaded")
    elif isinstance(node, str) and "${" in node:
        raise UserError(f"{path}: its network holds {node[:80]!r}, to be looked up on this machine: not loaded")
