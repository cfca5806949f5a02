"""Names of runs."""

from __future__ import annotations

import getpass
import re
from collections.abc import Mapping
from typing import Any

from ocr.utils.config import plain_config

PLACEHOLDER = "_SCORE_PLACEHOLDER"
MAX_LENGTH = 100  # W&B takes 128; the score comes on top


def generate_run_name(cfg: Any) -> str:
    """``<user>_<experiment>_<architecture>_<backbone>_bs<batch>_lr<rate>_SCORE_PLACEHOLDER``, file-safe.

    What the config does not have (a test has no learning rate) is left out. :func:`finalize_run` puts the score in
    place of the placeholder. ``logger.run_name`` replaces all before the placeholder; with ``logger.private`` only a
    user that was set is named.

    Args:
        cfg: the composed config, of Hydra or plain.
    """
    cfg = plain_config(cfg)
    if given := _get(cfg, "logger.run_name"):
        return file_safe(str(given))[:MAX_LENGTH] + PLACEHOLDER
    parts = [
        _get(cfg, "logger.user") or (None if _get(cfg, "logger.private") else _login()),
        _get(cfg, "name"),
        _get(cfg, "model.architecture"),
        _get(cfg, "model.backbone.name"),
        _labelled("bs", _get(cfg, "data.batch_size") if _get(cfg, "optimizer") else None),
        _labelled("lr", _get(cfg, "optimizer.lr")),
    ]
    name = "_".join(file_safe(str(part)) for part in parts if part not in (None, ""))
    return name[:MAX_LENGTH].rstrip("_") + PLACEHOLDER


def _get(node: Any, key: str) -> Any:
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return None if node == "???" else node


def _labelled(label: str, value: Any) -> str | None:
    return None if value is None else f"{label}{value:g}" if isinstance(value, float) else f"{label}{value}"


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "user"


def file_safe(text: str) -> str:
    """The text as part of a file name: other characters than letters, digits, ``.``, ``+`` and ``-`` become ``-``."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", text).strip("-")


def finished_name(name: str | None, label: str, value: float | None, precision: int = 4) -> str:
    """The run's name with the score in place of the placeholder, or of an earlier score.

    >>> finished_name("ann_sroie_SCORE_PLACEHOLDER", "hmean", 0.91234)
    'ann_sroie_hmean0.9123'
    >>> finished_name("ann_sroie_hmean0.9123", "hmean", 0.92)
    'ann_sroie_hmean0.9200'
    """
    score = f"_{label}{value:.{precision}f}" if value is not None else "_noscore"
    name = name or f"run{PLACEHOLDER}"
    if PLACEHOLDER in name:
        return name.replace(PLACEHOLDER, score)
    return re.sub(rf"(?:_{re.escape(label)}-?\d+\.\d+|_noscore)$", "", name) + score
