"""The form of the page Compose: config groups and settings with their comments, and its way to a command and back."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ocr.console.limits import is_group, options_of
from ocr.console.settings import ConsoleSettings
from ocr.errors import UserError
from ocr.jobs.command_line.arguments import shell_override
from ocr.jobs.command_line.config_files import comments, defaults_of, title_of
from ocr.jobs.command_line.overrides import CONFIGS, key_of, value_of

WANDB_MODES = {
    "": [],
    "off": ["logger.wandb.enabled=false"],
    "offline": ["logger.wandb.enabled=true", "logger.offline=true"],
    "online": ["logger.wandb.enabled=true", "logger.offline=false"],
}


@dataclass
class Composition:
    """What a command says.

    Attributes:
        values: of groups and of settings with a field, by their name, as text; those that are not given are missing.
        wandb: a key of :data:`WANDB_MODES`.
        sweep: preset of ``configs/sweep/``; empty for one training.
        more: the other overrides, as arguments.
    """

    values: dict[str, str] = field(default_factory=dict)
    wandb: str = ""
    sweep: str = ""
    more: list[str] = field(default_factory=list)

    @property
    def arguments(self) -> list[str]:
        """Arguments of ``runners/train.py``."""
        multirun = bool(self.sweep)
        given = [shlex.split(shell_override(key, value, multirun))[0] for key, value in self.values.items() if value]
        sweep = ["-m", f"+sweep={self.sweep}"] if self.sweep else []
        return [*sweep, *given, *WANDB_MODES[self.wandb], *self.more]

    @property
    def command(self) -> str:
        """The command line, for a shell."""
        return shlex.join(["python", "runners/train.py", *self.arguments])


def read_form(form: Mapping[str, Any], settings: ConsoleSettings) -> Composition:
    """What a submitted form says.

    Args:
        form: ``set:<name>`` of groups and fields, ``wandb``, ``sweep``, ``more``.
        settings: of the console.

    Raises:
        UserError: it has a choice that the page does not offer, or quotes that do not end.
    """
    values = {name: str(form.get(f"set:{name}", "")).strip() for name in names(settings)}
    composition = Composition({name: value for name, value in values.items() if value})
    composition.wandb, composition.sweep = str(form.get("wandb", "")), str(form.get("sweep", ""))
    if composition.wandb not in WANDB_MODES or composition.sweep not in ["", *presets()]:
        raise UserError("the form has a choice that the page does not offer")
    composition.more = _words(str(form.get("more", "")))
    return composition


def read_command(text: str, settings: ConsoleSettings) -> Composition:
    """What a command line says, as it is typed in a terminal.

    Raises:
        UserError: it starts no training, or has quotes that do not end.
    """
    words = _words(text.replace("\\\n", " "))
    runner = next((k for k, word in enumerate(words) if word.endswith("train.py")), None)
    if runner is None and any(word.endswith(".py") for word in words):
        raise UserError("only runners/train.py is started here")
    composition, switches = Composition(), dict[str, Any]()
    for word in words[0 if runner is None else runner + 1 :]:
        key, value = key_of(word), word.partition("=")[2]
        if word in ("-m", "--multirun"):
            continue
        if key == "sweep" and value in presets():
            composition.sweep = value
        elif key in ("logger.wandb.enabled", "logger.offline"):
            switches[key] = value_of(word)
        elif key in names(settings) and not word.startswith(("+", "~")):
            plain = value_of(word)
            composition.values[key] = plain if isinstance(plain, str) else value
        else:
            composition.more.append(word)
    if switches.get("logger.wandb.enabled") is False:
        composition.wandb = "off"
    elif switches:
        composition.wandb = "offline" if switches.get("logger.offline") is True else "online"
    return composition


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=True)
    except ValueError as error:
        raise UserError(f"the overrides cannot be read: {error}") from error


def names(settings: ConsoleSettings) -> list[str]:
    """Groups and settings of the form, in its order."""
    return [*settings.groups, *(key for keys in settings.fields.values() for key in keys)]


def presets() -> list[str]:
    """Sweeps that can be started."""
    return [name for name in options_of("sweep") if name != "default"]


def described(settings: ConsoleSettings) -> dict[str, Any]:
    """What the page shows: each group with its choices and their titles, each section of fields with their comments."""
    said = comments("train")
    groups = {group: _choices(group, options_of(group)) for group in settings.groups if is_group(group)}
    sections = {
        title.replace("_", " "): {key: said.get(key, "") for key in keys} for title, keys in settings.fields.items()
    }
    defaults = defaults_of("train")
    return {"groups": groups, "defaults": defaults, "sections": sections, "sweeps": _choices("sweep", presets())}


def _choices(group: str, options: Sequence[str]) -> dict[str, str]:
    return {name: title_of(CONFIGS / group / f"{name}.yaml") for name in options}
