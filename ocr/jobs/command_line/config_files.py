"""Config files as they lie on the disk: their keys with the comments behind them, which are their documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from ocr.jobs.command_line.overrides import CONFIGS

LINE = re.compile(r"^(?P<indent> *)(?P<dash>- )?(?P<key>[\w.]+):(?: +(?P<value>[^#\s].*?))?(?: +# (?P<comment>.*))?$")
NO_ITEM = 1000


@dataclass(frozen=True)
class Key:
    """A key of a config file.

    Attributes:
        path: within the file, parts joined by dots.
        value: as it stands there; empty for a group of keys.
        comment: behind it.
    """

    path: str
    value: str
    comment: str


def keys_of(file: Path) -> Iterator[Key]:
    """The keys of a config file but for those that Hydra itself reads and those within lists."""
    parents: list[tuple[int, str]] = []
    item = NO_ITEM  # the indentation of the list item that a line may be part of
    for line in file.read_text(encoding="utf-8").splitlines():
        match = LINE.match(line)
        indent = len(line) - len(line.lstrip(" "))
        if line.lstrip(" ").startswith("- "):
            item = indent
        if not match or match["dash"] or indent > item:
            continue
        item = NO_ITEM
        parents = [(depth, name) for depth, name in parents if depth < indent]
        path = ".".join([*(name for _, name in parents), match["key"]])
        parents.append((indent, match["key"]))
        if path.split(".")[0] not in ("defaults", "hydra") and not match["key"].startswith("_"):
            yield Key(path, match["value"] or "", match["comment"] or "")


def title_of(file: Path) -> str:
    """The comment at the top of a config file, in one line."""
    lines = file.read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if not line.startswith("# @package")]
    top = [
        line.removeprefix("#").strip() for line in lines[: next((k for k, x in enumerate(lines) if x[:1] != "#"), None)]
    ]
    return " ".join(top)


def package_of(file: Path) -> str:
    """Prefix of a config file's keys in the composed config, with a dot at its end; empty at the top."""
    header = re.match(r"# @package (\S+)", file.read_text(encoding="utf-8"))
    group = file.parent.relative_to(CONFIGS).as_posix().replace("/", ".")
    package = header[1] if header else group
    return "" if package in ("_global_", ".") else f"{package}."


def comments(job: str | None = None) -> dict[str, str]:
    """Comment of each key of the composed configs; files that change a key need not repeat it.

    Args:
        job: whose file is heeded before all others; None for the first that says something.
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
