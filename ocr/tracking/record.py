"""Facts that a run records about itself: a hash of its settings, the code, the machine, the command."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import socket
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "torch", "torchvision", "lightning", "wandb", "timm", "hydra-core", "omegaconf", "numpy",
    "opencv-python-headless", "shapely",
)  # fmt: skip


def config_hash(config: Mapping[str, Any]) -> str:
    """Hex digest of a plain, resolved config without ``logger`` and ``paths``, the run folder's path left out."""
    settings = {key: value for key, value in config.items() if key not in ("paths", "logger")}
    text = json.dumps(settings, sort_keys=True, default=str)
    if folder := (config.get("paths") or {}).get("run_dir"):
        quoted = json.dumps(folder)
        text = text.replace(quoted, '""').replace(f"{quoted[:-1]}/", '"/')
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def git_commit() -> str | None:
    """Commit of the code, with ``-dirty`` when tracked files differ from it; None outside a checkout."""
    try:
        command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def _versions() -> dict[str, str]:
    by_package = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            by_package[package] = version(package)
        except PackageNotFoundError:
            continue
    return by_package


def environment(hostname: bool = True) -> dict[str, Any]:
    """Code, time, platform and versions; the machine's name on request."""
    commit = git_commit()
    return {
        "git_commit": commit.removesuffix("-dirty") if commit else None,
        "git_dirty": commit.endswith("-dirty") if commit else None,
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "platform": platform.platform(terse=True),
        "versions": _versions(),
        **({"hostname": socket.gethostname()} if hostname else {}),
    }


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
