"""Faults of a command line, each in one line with its fix, where Hydra would show its grammar."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from ocr.errors import UserError, one_line
from ocr.tracking.record import relative

# settings that are text: a number, list or function in their place is a name that looks like one
_TEXTS = ("name", "root", "output", "source", "ckpt_path", "resume")
_PLUGINS = {
    "hydra/launcher": {"joblib": "joblib", "ray": "ray", "ray_aws": "ray", "rq": "rq", "submitit_local": "submitit",
                       "submitit_slurm": "submitit"},
    "hydra/sweeper": {"ax": "ax", "nevergrad": "nevergrad", "optuna": "optuna"},
}  # fmt: skip


def check_command_line(arguments: Sequence[str]) -> list[str]:
    """Check the form of a runner's arguments: options that Hydra knows, and settings that it can read.

    Returns:
        The settings, then the options: an option between settings is too much for Hydra's parser. ``--key=value``, as
        agents of W&B sweeps write settings, has lost its hyphens.

    Raises:
        UserError: one is misspelt, or has a value that must be quoted; the message has it quoted for a shell.
    """
    from hydra._internal.utils import get_args_parser

    options, unknown = get_args_parser().parse_known_args(list(arguments))
    for argument in unknown:
        if argument.startswith("-") and not _is_hyphened_setting(argument):
            raise UserError(f"there is no option {argument} (--help lists them); a setting is written as key=value")
    settings = {*options.overrides, *unknown}
    overrides = [a.lstrip("-") if _is_hyphened_setting(a) else a for a in arguments if a in settings]
    check_overrides(overrides, bool(options.multirun))
    return [*overrides, *(a for a in arguments if a not in settings)]


def check_overrides(overrides: Sequence[str], multirun: bool = False) -> None:
    """Check that settings of the form ``key=value`` can be read.

    Raises:
        UserError: one cannot be.
    """
    for k, override in enumerate(overrides):
        key, equals, value = override.partition("=")
        if not override.startswith("~") and (not equals or not key.strip()):
            raise UserError(_no_setting(override, overrides[k - 1] if k else "", "".join(overrides[k + 1 : k + 3])))
        if key != key.strip() or (value != value.lstrip() and value.strip()):
            raise UserError(_spaced(key, value))
        parsed, fault = _parsed(override)
        if fault:
            raise UserError(_unreadable(key, value, multirun, fault))
        quoted = shlex.quote(f"{key}={_quoted(value, multirun)}")
        if parsed.is_sweep_override():
            if not multirun:
                raise UserError(
                    f"several values of {key} are for a sweep (-m), a list is [...]; one text, quote it: {quoted}"
                )
        elif key.rpartition(".")[2].lstrip("+") in _TEXTS and not _is_text(parsed.value(), value):
            raise UserError(f"{key} would be {parsed.value()!r}; quote it: {quoted}")


def shell_override(key: str, value: str, multirun: bool = False) -> str:
    """Format a setting for a shell, quoted for Hydra and for the shell where needed.

    >>> print(shell_override("data.root", "영수증/"), shell_override("data.root", "my receipts"))
    'data.root="영수증/"' 'data.root=my receipts'
    """
    whole = f"{key}={value}"
    parsed, _ = _parsed(whole)
    if parsed is not None and (multirun or not parsed.is_sweep_override()):
        return shlex.quote(whole)
    return shlex.quote(f"{key}={_quoted(value, multirun)}")


def missing_plugin(message: str) -> str | None:
    """The command that installs a launcher or sweeper which Hydra's message misses; None for other messages."""
    match = re.search(r"Could not find '(hydra/\w+)/(\w+)'", message)
    plugin = match and _PLUGINS.get(match[1], {}).get(match[2])
    if not match or not plugin:
        return None
    package = f"hydra-{plugin}-{match[1].removeprefix('hydra/')}"
    return f"{match[1]}={match[2]} is not installed: {relative(sys.executable)} -m pip install {package}"


def _is_hyphened_setting(argument: str) -> bool:
    return argument.startswith("--") and "=" in argument


def _no_setting(word: str, before: str, after: str) -> str:
    """A word without key or value: most often a space has cut it off its setting."""
    key, equals, value = before.partition("=")
    if equals and "=" not in word:
        whole = f"{value} {word}" if value else word
        joined = shlex.quote(f"{key}={_quoted(whole, False)}") if value else shell_override(key, whole)
        return f"{word!r} is no setting of the form key=value; if it belongs to {key}, quote it: {joined}"
    if after.startswith("="):
        return _spaced(word, after[1:])
    return f"{word!r} is no setting of the form key=value"


def _unreadable(key: str, value: str, multirun: bool, fault: str) -> str:
    quoted = f"{key}={_quoted(value, multirun)}"
    if _parsed(quoted)[1]:  # it is the key
        return f"{key}=...: {fault}"
    return f"the value of {key} has characters that mean something else here; quote it: {shlex.quote(quoted)}"


def _spaced(key: str, value: str) -> str:
    return f"no space may stand beside the '=', write {shell_override(key.strip(), value.strip())}"


def _quoted(value: str, multirun: bool) -> str:
    """Quote a value for Hydra's grammar; in a list, a dictionary or a sweep only the parts that need it."""
    from hydra.core.override_parser.types import Quote, QuotedString

    def quote(text: str) -> str:
        return QuotedString(text, Quote.double).with_quotes()

    def quote_part(match: re.Match[str]) -> str:
        part = match[2]
        return match[1] + (part if _parsed(f"x={part}")[1] is None else quote(part)) + match[3]

    if (multirun and "," in value) or (value[:1] + value[-1:]) in ("[]", "{}"):
        parts = re.sub(r"(\s*)([^\s\[\]{},:](?:[^\[\]{},:]*[^\s\[\]{},:])?)(\s*)", quote_part, value)
        if parts != value and _parsed(f"x={parts}")[1] is None:
            return parts
    return quote(value)


def _parsed(override: str) -> tuple[Any, str | None]:
    """An override as Hydra parses it, or Hydra's message against it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_overrides([override])[0], None
    except HydraException as error:
        return None, one_line(error).split(" See https://")[0]


def _is_text(meant: Any, value: str) -> bool:
    """Whether the value of a setting that must be text means what was typed."""
    return meant is None or isinstance(meant, (str, bool)) or (isinstance(meant, (int, float)) and str(meant) == value)
