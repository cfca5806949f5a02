"""What a run records about itself: its config in plain types, the code, the machine."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf


def plain_config(config: DictConfig) -> dict[str, Any]:
    """The config resolved, in plain types; unresolved as the fallback, so that it is never missing."""
    try:
        return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]
    except Exception:  # any resolver may raise anything; a config with ${} is better than none
        return OmegaConf.to_container(config, resolve=False)  # type: ignore[return-value]


def config_hash(config: DictConfig) -> str:
    """Hex digest of the config without the paths of this run: equal settings have equal ones."""
    plain = {k: v for k, v in plain_config(config).items() if k not in ("paths", "logger", "callbacks", "trainer")}
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()[:12]


def git_commit() -> str | None:
    """Commit of the code, with ``-dirty`` when tracked files differ from it; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def environment() -> dict[str, Any]:
    """Commit, time and versions."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {"python": platform.python_version()}
    for package in ("torch", "lightning", "wandb", "timm", "hydra-core", "opencv-python-headless", "shapely"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "git_commit": git_commit(),
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions,
    }
