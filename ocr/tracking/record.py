"""What a run records about itself: its config in plain types, the code, the machine, the command."""

from __future__ import annotations

import enum
import hashlib
import json
import math
import os
import platform
import shlex
import socket
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePath
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "torch", "torchvision", "lightning", "wandb", "timm", "hydra-core", "omegaconf", "numpy",
    "opencv-python-headless", "shapely",
)  # fmt: skip
_DEEPEST = 40


def plain_config(config: Any) -> dict[str, Any]:
    """A config as nested plain types with text keys, every interpolation resolved that can be.

    A node that cannot be resolved stays as its own text (``${...}``); the others are resolved all the same. Objects
    become their names; NaN and infinity become text, for JSON has none.

    >>> plain_config({"a": 1, "b": "${a}", "c": "${nowhere}", 3: math.inf, "f": len})
    {'a': 1, 'b': 1, 'c': '${nowhere}', '3': 'inf', 'f': 'builtins.len'}
    """
    return _plain(config if OmegaConf.is_config(config) else OmegaConf.create(config, flags={"allow_objects": True}))


def _plain(value: Any, depth: int = 0) -> Any:
    if depth > _DEEPEST:  # an interpolation that contains itself
        return str(type(value).__name__)
    if isinstance(value, DictConfig):
        if value._is_none() or value._is_missing():
            return None if value._is_none() else "???"
        return {str(key): _plain(_resolved(value, key), depth + 1) for key in value.keys()}  # noqa: SIM118
    if isinstance(value, ListConfig):
        if value._is_none() or value._is_missing():
            return None if value._is_none() else "???"
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
    node = parent._get_node(key)
    try:
        return "???" if node._is_missing() else parent[key]
    except Exception:  # any resolver may raise anything; one node less is better than no config
        return str(node._value())


def config_hash(config: DictConfig) -> str:
    """Hex digest of the settings: the config without ``logger`` and ``paths``, the run folder's path left out."""
    plain = plain_config(config)
    folder = (plain.get("paths") or {}).get("run_dir")
    settings = {key: _without_folder(value, folder) for key, value in plain.items() if key not in ("paths", "logger")}
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _without_folder(value: Any, folder: str | None) -> Any:
    if isinstance(value, dict):
        return {key: _without_folder(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_folder(item, folder) for item in value]
    if folder and isinstance(value, str) and (value == folder or value.startswith(f"{folder}/")):
        return value[len(folder) :]
    return value


def git_commit() -> str | None:
    """Commit of the code, with ``-dirty`` when tracked files differ from it; None outside a checkout."""
    try:
        command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def versions() -> dict[str, str]:
    """Python's version and those of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def environment(hostname: bool = True) -> dict[str, Any]:
    """Code, time, machine and versions.

    Args:
        hostname: include the machine's name.
    """
    commit = git_commit()
    facts: dict[str, Any] = {
        "git_commit": commit.removesuffix("-dirty") if commit else None,
        "git_dirty": commit.endswith("-dirty") if commit else None,
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "platform": platform.platform(terse=True),
        "versions": versions(),
    }
    return facts | {"hostname": socket.gethostname()} if hostname else facts


def command_line(runner: str, overrides: Sequence[str]) -> str:
    """The command that repeats a run, for a shell.

    >>> command_line("train", ["data=sroie", "name=my run"])
    "python runners/train.py data=sroie 'name=my run'"
    """
    return shlex.join(["python", f"runners/{runner}.py", *overrides])


def relative(path: str | os.PathLike[str]) -> str:
    """A path as seen from the current folder, where that is shorter: it names no home folder."""
    path = os.path.abspath(path)
    short = os.path.relpath(path)
    return short if not short.startswith("..") else path
