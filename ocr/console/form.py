"""The form of the page Compose: config groups and settings with their comments, from a command and to one."""

from __future__ import annotations

import re
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
    """The parts of a command.

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
    def more_text(self) -> str:
        """Format the other overrides, a line each, quoted for a shell."""
        return "\n".join(map(shlex.quote, self.more))

    @property
    def command(self) -> str:
        """The command line, for a shell."""
        return shlex.join(["python", "runners/train.py", *self.arguments])


def read_form(form: Mapping[str, Any], settings: ConsoleSettings) -> Composition:
    """Read a submitted form.

    Args:
        form: ``set:<name>`` of groups and fields, ``wandb``, ``sweep``, ``more``.
        settings: the groups and fields that the page offers.

    Raises:
        UserError: it has a choice that the page does not offer, or quotes that do not end.
    """
    if not all(isinstance(value, str) for value in form.values()):
        raise UserError("the form has a choice that the page does not offer")
    values = {name: str(form.get(f"set:{name}", "")).strip() for name in names(settings)}
    composition = Composition({name: value for name, value in values.items() if value})
    composition.wandb, composition.sweep = str(form.get("wandb", "")), str(form.get("sweep", ""))
    if composition.wandb not in WANDB_MODES or composition.sweep not in ["", *presets()]:
        raise UserError("the form has a choice that the page does not offer")
    composition.more = _words(str(form.get("more", "")))
    if options := [word for word in composition.more if word.startswith(("-", "#"))]:
        raise UserError(f"{options[0]} is no override: a sweep is chosen above")
    return composition


def read_command(text: str, settings: ConsoleSettings) -> Composition:
    """Read a command line as it is typed in a terminal.

    Raises:
        UserError: it starts no training, or has quotes that do not end.
    """
    words = _words(re.sub(r"\\\r?\n", " ", text))
    runner = next((k for k, word in enumerate(words) if word.endswith("train.py")), None)
    if runner is None and any(word.endswith(".py") for word in words):
        raise UserError("only runners/train.py is started here")
    arguments = words[0 if runner is None else runner + 1 :]
    arguments = arguments[: next((k for k, word in enumerate(arguments) if word.startswith("#")), None)]  # a comment
    multirun = any(word in ("-m", "--multirun") for word in arguments)
    preset = next((word.partition("=")[2] for word in arguments if word.startswith("+sweep=")), "")
    if multirun != (preset in presets()):
        raise UserError("a sweep is -m with +sweep=..., of which grid takes every combination")
    composition = Composition(sweep=preset)
    for word in arguments:
        key = word.partition("=")[0]
        if word in ("-m", "--multirun") or key == "+sweep":
            continue
        if word.startswith("-") or ("=" not in word.lstrip("~+") and not word.startswith("~")):
            raise UserError(f"{word} is no override")
        if key in names(settings) and (text := _field_text(word, multirun)):
            composition.values[key] = text
            continue
        composition.more = [earlier for earlier in composition.more if key_of(earlier) != key or word[0] in "+~"]
        composition.more.append(word)
    for mode, switches in WANDB_MODES.items():
        said = [word for word in composition.more if key_of(word) in ("logger.wandb.enabled", "logger.offline")]
        if switches and sorted(said) == sorted(switches):
            composition.wandb = mode
            composition.more = [word for word in composition.more if word not in said]
    return composition


def _field_text(word: str, multirun: bool) -> str:
    """The text that a field shows for an override; empty where a field cannot say the same."""
    key, _, value = word.partition("=")
    plain = value_of(word)
    for text in (plain if isinstance(plain, str) else value, value):
        again = shlex.split(shell_override(key, text, multirun))[0] if text.strip() == text != "" else ""
        if (
            again
            and again.partition("=")[0] == key
            and repr(value_of(again)) == repr(plain)
            and not (multirun and again != word and "," in text)
        ):
            return text
    return ""


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UserError(f"the overrides cannot be read: {error}") from error


def names(settings: ConsoleSettings) -> list[str]:
    """Groups and settings of the form, in its order."""
    return [*settings.groups, *(key for keys in settings.fields.values() for key in keys)]


def presets() -> list[str]:
    """Sweeps that can be started."""
    return [name for name in options_of("sweep") if name != "default"]


def described(settings: ConsoleSettings) -> dict[str, Any]:
    """The content of the page: each group with its choices and titles, each section of fields with their comments."""
    said = comments("train")
    groups = {group: _choices(group, options_of(group)) for group in settings.groups if is_group(group)}
    sections = {
        title.replace("_", " "): {key: said.get(key, "") for key in keys} for title, keys in settings.fields.items()
    }
    defaults = defaults_of("train")
    return {"groups": groups, "defaults": defaults, "sections": sections, "sweeps": _choices("sweep", presets())}


def _choices(group: str, options: Sequence[str]) -> dict[str, str]:
    return {name: title_of(CONFIGS / group / f"{name}.yaml") for name in options}
