"""Recognition of a file's label format, and a description of a file that has none."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

from ocr.data.formats import label_formats
from ocr.data.formats.files import decode_text, is_image, numbered_lines, suffix_of, walk
from ocr.errors import UserError

LINES_SUFFIXES, LINES_LOOKED_AT, HEAD_CHARACTERS = (".txt", ".csv", ".jsonl"), 5, 2**20
MAX_FILES_SHOWN = 5  # in a message


def account_of(base: Path) -> str:
    """Description of the files that were looked at, for the message that no labels were found."""
    paths = (d / name for d, names in walk(base) for name in sorted(names) if suffix_of(name) in label_suffixes())
    shown = [f"{os.path.relpath(path, base)} {_look_of(path)}" for path, _ in zip(paths, range(MAX_FILES_SHOWN))]
    images = sum(is_image(name) for _, names in walk(base) for name in names)
    return f"; looked at: {'; '.join([f'{images} image(s)', *shown])}"


def _look_of(path: Path) -> str:
    try:
        text, fault = decode_text(path)
    except UserError:
        return "(cannot be read)"
    if fault:
        return f"(not UTF-8: {fault.partition('; ')[2]})"
    if path.suffix.lower() == ".json":
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            return "(not valid JSON)"
        keys = ", ".join(list(content)[:4]) if isinstance(content, dict) else ""
        return f"(JSON, {f'an object with {keys}' if keys else f'a {type(content).__name__}'})"
    first = next((line.strip() for line in text.split("\n") if line.strip()), "")
    if not first:
        return "(empty)"
    head = first.partition("[")[0]
    if "[{" in first and head.strip() and "\t" not in head:
        return f"(like PaddleOCR's, but line 1 has blanks where a tab belongs: sed -i 's/ \\+\\[{{/\\t[{{/' '{path}')"
    return f"(begins with {first[:40]!r})"


def format_of(path: Path) -> str | None:
    """The name of a label file's format, by what is in it; None when it is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return _format_of(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=1000)
def _format_of(path: Path, *stamp: int) -> str | None:
    try:
        text, _ = decode_text(path)
        if path.suffix.lower() == ".json":
            content: Any = json.loads(text)
        else:
            content = text[:HEAD_CHARACTERS]
    except (UserError, ValueError, RecursionError):
        return None
    suffix = path.suffix.lower()
    lines = [line.strip() for _, line in numbered_lines(content)[:LINES_LOOKED_AT]] if suffix in LINES_SUFFIXES else []
    heads = lines or [content]  # the first line may be broken, or a header
    fitting = (f for head in heads for f in label_formats().values() if suffix in f.suffixes and f.matches(path, head))
    return next((f.name for f in fitting), None)


def per_image_formats() -> set[str]:
    """Names of the formats with one label file per image."""
    return {f.name for f in label_formats().values() if f.per_image}


def label_suffixes() -> set[str]:
    """Suffixes of all label files, in lower case."""
    return {suffix for f in label_formats().values() for suffix in f.suffixes}
