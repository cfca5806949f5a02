"""What is made from ``configs/`` and the label formats: tables in the pages, and schemas for editors.

Usage::

    python docs/generate.py             # rewrites the tables in docs/configuration.md and docs/data.md
    python docs/generate.py --schemas   # writes .schemas/, which .vscode/settings.json names
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter

from ocr.jobs.command_line.config_files import comments, files_of, keys_of, package_of, title_of
from ocr.jobs.command_line.kinds import schema_of_node
from ocr.jobs.command_line.overrides import CONFIGS

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/configuration.md"
FORMATS_PAGE = ROOT / "docs/data.md"
FORMATS = ("<!-- formats: python docs/generate.py -->", "<!-- /formats -->")
MARKER = "<!-- below: python docs/generate.py -->\n"
JOBS = ("train", "test", "tune", "predict", "export", "audit", "convert", "learning_curve", "leaderboard", "make_data",
        "benchmark", "console")  # fmt: skip


def reference() -> str:
    """Tables of all keys, a section per group."""
    text = []
    said = comments()
    for job in JOBS:
        text += [f"### `{job}.yaml`", title_of(CONFIGS / f"{job}.yaml"), *_table(CONFIGS / f"{job}.yaml", said)]
    for folder in sorted({file.parent for file in files_of()} - {CONFIGS}):
        group = folder.relative_to(CONFIGS).as_posix()
        files = sorted(folder.glob("*.yaml"), key=lambda file: (file.stem != "default", file.stem))
        text.append(f"### `{group}=`{', '.join(f'`{file.stem}`' for file in files)}")
        for file in files:
            text += [f"**`{group}={file.stem}`**: {title_of(file)}", *_table(file, said)]
    return "\n\n".join(text) + "\n"


def _table(file: Path, said: Mapping[str, str]) -> list[str]:
    lines = ["| key | value | |", "|---|---|---|"]
    for key in keys_of(file):
        path = package_of(file) + key.path
        if key.value:
            lines.append(f"| `{path}` | `{_code(key.value)}` | {_cell(key.comment or said.get(path, ''))} |")
    return ["\n".join(lines)] if len(lines) > 2 else []


def _code(text: str) -> str:
    return text.replace("|", "\\|")


def _cell(text: str) -> str:
    return _code(text).replace("<", "&lt;")


def schema_of(file: Path) -> dict[str, Any]:
    """JSON schema of a config file, from the signatures of its ``_target_``s and the settings of its job."""
    content = _with_defaults(file)
    group = file.parent.relative_to(CONFIGS).as_posix()
    if group == "logger":
        from ocr.tracking.schema import LoggerSettings

        schema = TypeAdapter(LoggerSettings).json_schema()
        schema.pop("required", None)
    else:
        schema = schema_of_node(content)
    if group == "optimizer":
        from ocr.training.optim.scaling import LrScaling

        schema["properties"] |= TypeAdapter(LrScaling).json_schema()["properties"]
    schema = _or_interpolation(schema)
    schema["$schema"] = "http://json-schema.org/draft-07/schema#"
    schema.setdefault("properties", {})["defaults"] = {}
    return schema


def _with_defaults(file: Path) -> dict[str, Any]:
    """The content of a file over that of the files of its own group that it names."""
    content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    merged: dict[str, Any] = {}
    for entry in content.pop("defaults", []):
        other = file.with_name(f"{entry}.yaml") if isinstance(entry, str) else None
        if other is not None and other.is_file():
            merged = _merged(merged, _with_defaults(other))
    return _merged(merged, content)


def _merged(one: dict[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    both = {key: _merged(one[key], other[key]) if isinstance(one[key], dict) and isinstance(other[key], dict) else
            other[key] for key in one.keys() & other.keys()}  # fmt: skip
    return {**one, **other, **both}


def _or_interpolation(schema: Any) -> Any:
    """Every value may also be ``${...}``, and null where an override is to be left out."""
    if isinstance(schema, list):
        return [_or_interpolation(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    properties = {
        key: {"anyOf": [_or_interpolation(value), {"type": "string", "pattern": r"\$\{"}, {"type": "null"}]}
        for key, value in schema.get("properties", {}).items()
    }
    rest = {key: _or_interpolation(value) for key, value in schema.items() if key not in ("properties", "required")}
    if isinstance(items := rest.get("items"), dict):
        rest["items"] = {"anyOf": [items, {"type": "string", "pattern": r"\$\{"}]}
    return rest | ({"properties": properties} if properties else {})


def write_schemas(folder: Path) -> None:
    """A schema per config file, under its path."""
    for file in files_of():
        target = folder / file.relative_to(CONFIGS).with_suffix(".json")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(schema_of(file), indent=1) + "\n", encoding="utf-8")


def formats_page() -> str:
    """docs/data.md with today's table of label formats, from the docstrings of their files."""
    from ocr.data.formats import FOLDERS, label_formats

    rows = ["| format | label files | written by `predict formats=` |", "|---|---|---|"]
    for name, label_format in sorted(label_formats().items()):
        module = next(m for f in FOLDERS if (m := sys.modules.get(f"{f}.{name}")) is not None)
        summary = str(module.__doc__).split("\n\n")[0].replace("\n", " ").replace("``", "`")
        rows.append(f"| `{name}` | {_code(summary)} | {f'`{label_format.file}`' if label_format.write else ''} |")
    before, _, rest = FORMATS_PAGE.read_text(encoding="utf-8").partition(FORMATS[0])
    return f"{before}{FORMATS[0]}\n" + "\n".join(rows) + f"\n{FORMATS[1]}{rest.partition(FORMATS[1])[2]}"


def page() -> str:
    """docs/configuration.md with today's reference."""
    return PAGE.read_text(encoding="utf-8").split(MARKER)[0] + MARKER + "\n" + reference()


if __name__ == "__main__":
    if "--schemas" in sys.argv[1:]:
        write_schemas(ROOT / ".schemas")
    else:
        PAGE.write_text(page(), encoding="utf-8")
        FORMATS_PAGE.write_text(formats_page(), encoding="utf-8")
