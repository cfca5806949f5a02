"""Composing a job's config in this process, and what is said when that fails."""

from __future__ import annotations

import contextlib
import difflib
import os
import warnings
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ocr.errors import UserError, first_line, one_line
from ocr.jobs.command_line.arguments import missing_plugin
from ocr.jobs.command_line.overrides import CONFIGS, varies
from ocr.utils.config import plain_config

# names of Hydra 1.3 and OmegaConf 2.3 that 1.4 and 2.4 know, too
for deprecated in ("The version_base parameter is deprecated", r"register_new_resolver\(\) is deprecated"):
    warnings.filterwarnings("ignore", message=f"\\s*{deprecated}")


def compose_job(job: str, overrides: Sequence[str], with_hydra: bool = False) -> DictConfig:
    """A job's config as its runner composes it, without a run folder; what a sweep varies is left out.

    Raises:
        hydra.errors.HydraException, omegaconf.errors.OmegaConfBaseException: see :func:`config_message`.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(job, overrides=[o for o in overrides if not varies(o)], return_hydra_config=with_hydra)


def any_target() -> contextlib.AbstractContextManager[Any]:
    """Inside, a config may name any class, as before Hydra 1.4, which asks for a list.

    A command line is the user's own; of files from elsewhere :mod:`ocr.training.trust` allows what they may name.
    """
    import hydra.utils

    utils: Any = hydra.utils
    if not hasattr(utils, "execution_whitelist"):
        return contextlib.nullcontext()
    policy: Any = utils.execution_whitelist(utils.UNSAFE_DISABLE_EXECUTION_CHECKS)
    return policy


def register_resolvers() -> None:
    """``${token:}``: three random bytes in hex, the same throughout a process.

    ``${checkpoint_data_name:<ckpt_path>}``: ``data.name`` of a checkpoint, for the name of its test; "data" where the
    checkpoint does not say or is not there yet.
    """
    OmegaConf.register_new_resolver("token", lambda: os.urandom(3).hex(), use_cache=True, replace=True)
    OmegaConf.register_new_resolver("checkpoint_data_name", _checkpoint_data_name, use_cache=True, replace=True)


def _checkpoint_data_name(path: str | None) -> str:
    from ocr.training.data_record import read_record
    from ocr.training.loading import checkpoint_path

    try:
        record = read_record(checkpoint_path(str(path))) if path else None
    except UserError:  # the job says what is wrong with the file
        return "data"
    return record.config["name"] if record else "data"


def config_message(error: Exception, job: str, arguments: Sequence[str]) -> str:
    """Hydra's or OmegaConf's words in one line, with the nearest setting where a key is unknown."""
    first = first_line(error)
    if first.startswith("Could not override"):
        key, full_key = first.split("'")[1], str(getattr(error.__cause__, "full_key", ""))
        if full_key.startswith(f"{key}."):  # of key={a: 1, b: 2} the one that is unknown
            hint = _nearest(full_key, job, arguments, f"{key}.")
            return f"there is no setting {full_key!r}{hint} (+{key}=... adds a new one)"
        return f"there is no setting {key!r}{_nearest(key, job, arguments)} (+{key}=... adds a new one)"
    return missing_plugin(first) or one_line(error)


def _nearest(key: str, job: str, arguments: Sequence[str], inside: str = "") -> str:
    """The end of a message, ``, did you mean ...?``, with a setting that begins with ``inside``."""
    try:
        added = [a for a in arguments if a.startswith("+") and "." not in a.partition("=")[0]]  # +sweep=grid
        known = [k for k in _keys(plain_config(compose_job(job, added))) if k.startswith(inside)]
    except Exception:  # a suggestion is a courtesy: without one the message still stands
        return ""
    parent, _, leaf = key.rpartition(".")
    siblings = [k for k in known if k.rpartition(".")[0] == parent and k.rpartition(".")[2].startswith(leaf)]
    close = siblings or difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    return f", did you mean {close[0]!r}?" if close and close[0] != key else ""


def _keys(config: dict[str, Any], prefix: str = "") -> list[str]:
    keys = []
    for key, value in config.items():
        keys.append(f"{prefix}{key}")
        if isinstance(value, dict):
            keys += _keys(value, f"{prefix}{key}.")
    return keys
