"""What overrides that came through a browser may do: less than those of a terminal, whose owner may do anything."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ocr.errors import UserError
from ocr.jobs.command_line.arguments import check_overrides
from ocr.jobs.command_line.overrides import CONFIGS, key_of, value_of

HYDRA_GROUPS = ("hydra/launcher",)  # of Hydra's own settings, those that may be chosen
FIXED = ("paths", "trusted_targets")  # settings that the console gives, or that would let in other classes
RESOLVER = re.compile(r"\$\{[^}]*:")  # ${oc.env:...} reads the environment
# settings whose text is a path, whatever it looks like; data.images and the like are relative to data.root
PATH_KEYS = {"root", "ckpt_path", "resume", "source", "output", "dir", "weights", "save_dir", "default_root_dir"}
NO_PATH = {"", "auto", "null", "None", "True", "False", "true", "false"}


def options_of(group: str) -> list[str]:
    """Choices of a config group, as its files lie on the disk."""
    return sorted(file.stem for file in (CONFIGS / group).glob("*.yaml"))


def is_group(key: str) -> bool:
    """Whether a key of the command line names a config group of the project."""
    return bool(re.fullmatch(r"\w+(/\w+)*", key)) and (CONFIGS / key).is_dir()


def refusals(overrides: Sequence[str], folders: Sequence[Path], multirun: bool = False) -> list[tuple[str, str]]:
    """Why overrides are not taken from a browser: (setting, reason) of each that is not.

    Whether a setting exists is left to Hydra, which is asked without ``+``.

    Args:
        overrides: as arguments of a command.
        folders: absolute; paths must lie in one of them.
        multirun: values may be several, for a sweep.
    """
    refused = []
    for override in overrides:
        try:
            check_overrides([override], multirun)
        except UserError as error:
            refused.append((key_of(override), str(error)))
            continue
        if reason := _refusal(override, folders):
            refused.append((key_of(override), reason))
    return refused


def _refusal(override: str, folders: Sequence[Path]) -> str:
    key, value = key_of(override).partition("@")[0], value_of(override)
    names = [*key.replace("/", ".").split("."), *_keys(value)]
    if override.startswith("~"):
        return "nothing can be removed here; a callback or metric is left out with =null"
    if any(name.startswith("_") for name in names) or "_target_" in override:
        return "what is made of which class cannot be set here"
    if names[0] == "hydra" and key not in HYDRA_GROUPS:
        return f"of Hydra's own settings only {', '.join(HYDRA_GROUPS)} can be chosen here"
    if names[0] in FIXED:
        return "it is the console's to set, or a terminal's"
    if RESOLVER.search(override):
        return "${...:...} would read the environment of the server"
    if is_group(key) and key not in HYDRA_GROUPS:  # of those, plug-ins have others
        chosen = [name.strip() for name in override.partition("=")[2].strip("[]").split(",")]
        unknown = [name for name in chosen if name not in [*options_of(key), "null"]]
        return f"there is no {key}={unknown[0]}: {', '.join(options_of(key))}" if unknown else ""
    if key in HYDRA_GROUPS:
        return ""
    if override.startswith("+"):
        return "a setting that the config does not have cannot be added here"
    texts = list(_texts(value)) if isinstance(value, (list, dict)) else [*str(value).split(","), str(value)]
    for text in texts:
        looks = text.startswith(("/", "~", "\\")) or ".." in Path(text).parts or "://" in text
        if (looks or key.rpartition(".")[2] in PATH_KEYS) and not _within(text, folders):
            return f"{text} is in none of the folders that this console was started for (runs, data_folders)"
    return ""


def _within(text: str, folders: Sequence[Path]) -> bool:
    if text in NO_PATH:
        return True
    if "://" in text or "${" in text:
        return False
    path = Path(text).expanduser().resolve()
    return any(path.is_relative_to(folder) for folder in folders)


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from _keys(item)
    elif isinstance(value, list):
        for item in value:
            yield from _keys(item)


def _texts(value: Any) -> Iterator[str]:
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, (dict, list)):
            yield from _texts(item)
        elif isinstance(item, str):
            yield item
