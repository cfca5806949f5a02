"""Config files as they lie on the disk: their keys with the comments behind them, which are their documentation."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from ocr.jobs.command_line.overrides import CONFIGS


class Key(NamedTuple):
    """A key of a config file: dotted path within the file, value as it stands there (none for a group), comment."""

    path: str
    value: str
    comment: str


def keys_of(file: Path) -> Iterator[Key]:
    """The keys of a config file but for those that Hydra itself reads and those within lists."""
    text = file.read_text(encoding="utf-8")
    return _keys_of(yaml.compose(text), text.splitlines())


def _keys_of(node: yaml.Node | None, lines: Sequence[str], prefix: str = "") -> Iterator[Key]:
    if not isinstance(node, yaml.MappingNode) or node.flow_style:
        return
    for key, value in node.value:
        if prefix + key.value not in ("defaults", "hydra") and not key.value.startswith("_"):
            written, _, comment = lines[key.start_mark.line][key.end_mark.column + 1 :].partition(" # ")
            yield Key(prefix + key.value, written.strip(), comment.strip())
            yield from _keys_of(value, lines, f"{prefix}{key.value}.")


def title_of(file: Path) -> str:
    """The comment at the top of a config file, in one line."""
    lines = file.read_text(encoding="utf-8").splitlines()
    top = itertools.takewhile(lambda line: line.startswith("#"), lines)
    return " ".join(line.removeprefix("#").strip() for line in top if not line.startswith("# @package"))


def package_of(file: Path) -> str:
    """Prefix of a config file's keys in the composed config, with a dot at its end; empty at the top."""
    header = re.match(r"# @package (\S+)", file.read_text(encoding="utf-8"))
    group = file.parent.relative_to(CONFIGS).as_posix().replace("/", ".")
    package = header[1] if header else group
    return "" if package in ("_global_", ".") else f"{package}."


def comments(job: str | None = None) -> dict[str, str]:
    """Comment of each key of the composed configs, that of the job's own file first.

    Files that change a key need not repeat it.
    """
    said: dict[str, str] = {}
    own = CONFIGS / f"{job}.yaml"
    for file in sorted(files_of(), key=lambda file: (file != own, file.stem == "checkpoint")):
        for key in keys_of(file):
            if key.comment:
                said.setdefault(package_of(file) + key.path, key.comment)
    return said


def defaults_of(job: str) -> dict[str, str]:
    """The choice of each config group that a job's file makes."""
    entries = yaml.safe_load((CONFIGS / f"{job}.yaml").read_text(encoding="utf-8")).get("defaults", [])
    return {
        group: str(choice) for entry in entries if isinstance(entry, dict) for group, choice in entry.items() if choice
    }


def files_of() -> list[Path]:
    """Config files of the project, those that define before those that change."""
    files = [file for file in CONFIGS.rglob("*.yaml") if "hydra" not in file.parts]
    return sorted(files, key=lambda f: (f.parent.name in ("experiment", "debug"), f.stem != "default", str(f)))
