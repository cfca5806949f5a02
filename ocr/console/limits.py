"""Limits on overrides that come through a browser: they may do less than those of a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ocr.errors import UserError
from ocr.jobs.command_line.arguments import check_overrides
from ocr.jobs.command_line.overrides import CONFIGS, key_of, value_of

HYDRA_GROUPS = ("hydra/launcher",)  # of Hydra's own settings, those that may be chosen
# settings that the console gives, that would let in other classes, or whose texts are overrides or addresses themselves
FIXED = ("paths", "trusted_targets", "sweep.space", "sweep.storage", "sweep.resume", "logger.save_dir")
FIXED_LEAVES = {"dirpath", "filename", "default_root_dir"}
FREE_TEXTS = {"logger.notes", "logger.tags", "logger.project_name", "logger.entity", "logger.user", "logger.group",
              "logger.run_name", "logger.exp_version"}  # fmt: skip
PATHS = {"root", "ckpt_path", "resume", "source", "output", "dir", "weights"}  # settings whose text is a path
BELOW_ROOT = {"images", "annotations", "ids"}  # paths relative to data.root where that is given
NO_PATH = {"", "auto", "null", "None", "True", "False", "true", "false"}
ADDRESS = re.compile(r"[A-Za-z][\w+.-]*:(?!\s)")  # s3://..., hf-hub:..., local-dir:...
MAX_LENGTH = 20_000


def options_of(group: str) -> list[str]:
    """Choices of a config group, as its files lie on the disk."""
    return sorted(file.stem for file in (CONFIGS / group).glob("*.yaml"))


def is_group(key: str) -> bool:
    """Whether a key of the command line names a config group of the project."""
    return bool(re.fullmatch(r"\w{1,50}(/\w{1,50})*", key)) and (CONFIGS / key).is_dir()


def refusals(overrides: Sequence[str], folders: Sequence[Path], multirun: bool = False) -> list[tuple[str, str]]:
    """Why overrides are not taken from a browser: (setting, reason) of each that is not.

    Whether a setting exists is left to Hydra, which is asked without ``+``.

    Args:
        overrides: as arguments of a command.
        folders: absolute; paths must lie in one of them.
        multirun: values may be several, for a sweep.
    """
    from hydra.errors import HydraException

    has_root = any(key_of(override) == "data.root" for override in overrides)
    refused = []
    for override in overrides:
        try:
            reason = "" if len(override) < MAX_LENGTH else f"longer than {MAX_LENGTH} characters"
            if not reason:
                check_overrides([override], multirun)
                reason = _refusal(override, folders, has_root)
        except UserError as error:
            reason = str(error)
        except (HydraException, OSError, ValueError, RuntimeError):  # too deep lists, odd paths
            reason = "it cannot be read"
        if reason:
            refused.append((key_of(override)[:100], reason))
    return refused


def _refusal(override: str, folders: Sequence[Path], has_root: bool) -> str:
    key = key_of(override)
    values = list(_values(override))
    settings = [pair for value in values for pair in _settings(value, key.rpartition(".")[2])]
    names = [*key.replace("/", ".").split("."), *(name for name, _ in settings)]
    if override.startswith("~"):
        return "nothing can be removed here; a callback or metric is left out with =null"
    if any(name.startswith("_") for name in names) or "_target_" in override:
        return "what is made of which class cannot be set here"
    if not re.fullmatch(r"\+?[\w./]+", override.partition("=")[0]):
        return "no name of a setting or group"
    if "${" in override:
        return "${...} could read the environment of the server: write the value itself"
    if names[0] == "hydra":
        chosen = key in HYDRA_GROUPS and all(isinstance(v, str) and re.fullmatch(r"\w+", v) for v in values)
        return "" if chosen else f"of Hydra's own settings only {', '.join(HYDRA_GROUPS)} can be chosen here"
    if any(key == fixed or key.startswith(f"{fixed}.") for fixed in FIXED) or FIXED_LEAVES & set(names):
        return "it is the console's to set, or a terminal's"
    if is_group(key):
        chosen_names = [name for value in values for name in (value if isinstance(value, list) else [value])]
        unknown = [name for name in chosen_names if name is not None and name not in options_of(key)]
        return f"there is no {key}={unknown[0]}: {', '.join(options_of(key))}" if unknown else ""
    if override.startswith("+"):
        return "a setting that the config does not have cannot be added here"
    if key in FREE_TEXTS:
        return ""
    for name, text in settings:
        if not isinstance(text, str):
            continue
        if name == "name" and any(part[0] == "." and part != ".." for part in Path(text).parts):
            return "folders whose names begin with a dot are the console's own"
        looks = text.startswith(("/", "~", "\\")) or ".." in Path(text).parts or ADDRESS.match(text)
        if (looks or name in PATHS or (name in BELOW_ROOT and not has_root)) and not within(text, folders):
            return f"{text} is in none of the folders that this console was started for (runs, data_folders)"
    return ""


def _values(override: str) -> Iterator[Any]:
    """The value of an override; of a sweep each one."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_override(override)
    if not parsed.is_sweep_override():
        yield value_of(override)
    elif not parsed.is_choice_sweep() and not parsed.is_range_sweep():
        raise UserError("of functions only choice(...) and range(...) are taken here")
    else:
        for text in parsed.sweep_string_iterator():
            yield value_of(f"{key_of(override)}={text}")


def within(text: str, folders: Sequence[Path]) -> bool:
    """Whether a path lies in one of some folders, absolute, once links are followed."""
    if text in NO_PATH:
        return True
    if ADDRESS.match(text):
        return False
    try:
        path = Path(text).expanduser().resolve()
    except (RuntimeError, ValueError, OSError):  # a user who is not there, a zero byte, a loop of links
        return False
    return any(path.is_relative_to(folder) for folder in folders)


def _settings(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """A value and all values within it, each with the setting that it is of."""
    yield name, value
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _settings(item, str(key))
    elif isinstance(value, list):
        for item in value:
            yield from _settings(item, name)
