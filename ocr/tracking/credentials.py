"""Credentials and switches from the environment and from ``.env`` files.

Precedence: an override on the command line, the environment, ``.env.local``, ``.env``, the config's default.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dotenv import dotenv_values

from ocr.errors import UserError

ENV_FILES = (".env.local", ".env")  # the first that sets a variable wins; the environment wins over both
SWITCHES = {"WANDB_ENABLED", "WANDB_DISABLED", "WANDB_MODE"}
MODES = ("online", "offline", "disabled", "dryrun", "shared")
_TRUE, _FALSE = ("1", "true", "yes", "on", "y", "t"), ("0", "false", "no", "off", "n", "f")


@dataclass
class EnvReport:
    """Where the variables came from.

    Attributes:
        files: the ``.env`` files that were read.
        sources: variable to the file that set it; what the environment had is not listed.
        cleaned: variables whose value had white space or quotes around it.
    """

    files: list[Path] = field(default_factory=list)
    sources: dict[str, Path] = field(default_factory=dict)
    cleaned: list[str] = field(default_factory=list)


def load_env_variables(folder: str | os.PathLike[str] | None = None) -> list[Path]:
    """Load ``.env.local`` and ``.env`` into the environment without overriding what it has.

    White space and quotes around values are removed, the usual fault of a pasted key. Empty values are skipped, so
    that an unfilled line of ``.env.example`` sets nothing. What wandb does not know any more is translated:
    ``WANDB_DISABLED`` and ``WANDB_MODE=disabled`` become ``WANDB_ENABLED=false``.

    Args:
        folder: where the files lie; the current folder, then the project's root when it is another.

    Returns:
        The files that were read.
    """
    return read_environment(folder).files


def read_environment(folder: str | os.PathLike[str] | None = None) -> EnvReport:
    """:func:`load_env_variables`, with an account of what came from where.

    Raises:
        UserError: a switch has a value that is neither true nor false, or a mode is unknown.
    """
    root = Path(__file__).resolve().parents[2]
    folders = [Path(folder)] if folder is not None else list(dict.fromkeys([Path.cwd(), root]))
    report = EnvReport()
    layers: list[Mapping[str, str]] = [{k: v for k, v in os.environ.items() if v.strip()}]
    for directory in folders:
        for name in ENV_FILES:
            path = directory / name
            if path.is_file():
                report.files.append(path)
                layers.append({k: v for k, v in dotenv_values(path).items() if v and v.strip()})
    for source, layer in zip([None, *report.files], layers, strict=True):
        for key, value in layer.items():
            if source is None and not key.startswith("WANDB_"):
                continue
            bare = value.strip().strip("'\"").strip()
            if source is None or (bare and not os.environ.get(key, "").strip()):
                os.environ[key] = bare
                if source is not None:
                    report.sources[key] = source
                if bare != value:
                    report.cleaned.append(key)
    enabled = _enabled(layers)
    if enabled is not None:
        os.environ["WANDB_ENABLED"] = str(enabled).lower()
    if not os.environ.get("WANDB_ERROR_REPORTING"):
        # wandb's own telemetry: beside a server that stalls, every process would wait for it at its end
        os.environ["WANDB_ERROR_REPORTING"] = "false"
    return report


def _enabled(layers: list[Mapping[str, str]]) -> bool | None:
    """Whether the environment wants W&B; None when it says nothing. In one layer, off beats on."""
    for layer in layers:
        said = [_switch(name, layer[name]) for name in sorted(SWITCHES & set(layer))]
        said = [s for s in said if s is not None]
        if said:
            return all(said)
    return None


def _switch(name: str, value: str) -> bool | None:
    value = value.strip().strip("'\"").strip().lower()
    if name == "WANDB_MODE":
        if value not in MODES:
            raise UserError(f"WANDB_MODE is {value!r}: it must be one of {', '.join(MODES)}")
        return False if value == "disabled" else None
    if value not in _TRUE + _FALSE:
        raise UserError(f"{name} is {value!r}: write true or false")
    return (value in _TRUE) != (name == "WANDB_DISABLED")


def key_fault(key: str) -> str | None:
    """Fault in the form of an API key, by wandb's own check; None for a sound one. Never shows the key.

    >>> key_fault("a" * 40), key_fault("local-" + "a" * 40), key_fault("ab")
    (None, None, 'API key must have 40+ characters, has 2.')
    """
    from wandb.sdk.lib.wbauth.validation import check_api_key

    if key != key.strip() or key.startswith(("'", '"')) or key.endswith(("'", '"')):
        return "API key has white space or quotes around it."
    return check_api_key(key)


def server_url() -> str:
    """The W&B server in use, by wandb's own settings: environment, settings files, its default."""
    import wandb

    return wandb.setup().settings.base_url


def stored_key() -> str | None:
    """The API key that W&B would use: the environment's, or that of ``wandb login`` for the server in use.

    Raises:
        UserError: the key that ``wandb login`` stored has been damaged.
    """
    from wandb.errors import AuthenticationError
    from wandb.sdk.lib.wbauth import read_netrc_auth

    try:
        return os.environ.get("WANDB_API_KEY") or read_netrc_auth(host=server_url())
    except AuthenticationError as error:
        raise UserError(f"the key in ~/.netrc is malformed: {error} (write it again: wandb login --relogin)") from error
