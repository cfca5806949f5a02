"""Images, label files, id lists and marks of ignored text, for the readers of all formats."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ocr.data.index.report import Report
from ocr.errors import UserError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp"})
IGNORE_FLAGS = ("ignore", "difficult", "illegible")  # attributes of a text, in tools with free ones
TOOL_FOLDERS = frozenset({"crop_img"})  # PPOCRLabel's crops of words: no images of the set
BYTE_ORDER_MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
CODE_PAGES = ("gb18030", "big5", "shift_jis", "euc_kr", "cp1251", "cp1252", "latin-1")  # by how little each accepts


def suffix_of(name: str) -> str:
    """The suffix of a file name in lower case."""
    return os.path.splitext(name)[1].lower()


def is_image(name: str) -> bool:
    """Whether a file is an image, by its name."""
    return suffix_of(name) in IMAGE_SUFFIXES


def list_images(folder: Path) -> dict[str, Path]:
    """Image files below a folder, sub-folders and linked folders included, as {relative path: path}, sorted.

    Raises:
        UserError: the folder does not exist or holds no image.
    """
    if not folder.is_dir():
        raise UserError(f"image folder not found: {folder} (set data.root=<folder>)")
    images = {}
    for directory, names in walk(folder):
        below = directory.relative_to(folder).as_posix()
        for name in names:
            if is_image(name):
                images[name if below == "." else f"{below}/{name}"] = directory / name
    if not images:
        raise UserError(f"no images in {folder} (looked for {' '.join(sorted(IMAGE_SUFFIXES))})")
    return dict(sorted(images.items()))


def walk(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield (folder, file names) for a folder and all below it, without hidden folders and those of tools.

    Linked folders are entered, each folder once.
    """
    visited: set[str] = set()
    for directory, folders, names in os.walk(folder, followlinks=True):
        here = os.path.realpath(directory)
        if here in visited:
            folders.clear()
            continue
        visited.add(here)
        folders[:] = [name for name in folders if not name.startswith(".") and name not in TOOL_FOLDERS]
        yield Path(directory), names


def read_ids(path: Path) -> list[str]:
    """An id list: a stem, a file name or a path per line; blank lines and repeats are dropped.

    Of a line with two columns the first one counts where it names an image: others name the label file behind it.

    Raises:
        UserError: the file is missing or empty.
    """
    lines = (_first_column(line) for _, line in numbered_lines(read_text(path)))
    ids = list(dict.fromkeys(line.replace("\\", "/").removeprefix("./") for line in lines if line))
    if not ids:
        raise UserError(f"id list is empty: {path}")
    return ids


def _first_column(line: str) -> str:
    line = line.strip().strip("\ufeff")
    for separator in ("\t", ",", " "):
        head = line.partition(separator)[0].strip().strip("'\"")
        if separator == "\t" or without_suffix(head) != head:
            line = head
    return line.strip().strip("'\"")


def without_suffix(name: str) -> str:
    """A name without the suffix of an image, if it has one.

    >>> without_suffix("shop.1/r0.jpg"), without_suffix("r0.v2")
    ('shop.1/r0', 'r0.v2')
    """
    return os.path.splitext(name)[0] if is_image(name) else name


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without a byte order mark, or in UTF-16 or UTF-32.

    Raises:
        UserError: the file is missing, unreadable, or in another encoding; the message has a command that converts it.
    """
    text, fault = decode_text(path)
    if fault:
        raise UserError(fault)
    return text


def decode_text(path: Path) -> tuple[str, str | None]:
    """Decode a text file; also return a note on its encoding where that is not Unicode. Bad bytes become U+FFFD.

    Raises:
        UserError: the file is missing or unreadable.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if data.startswith(mark)), "utf-8-sig")
    if encoding == "utf-8-sig" and b"\0" in data[:2]:  # UTF-16 without its mark
        encoding = "utf-16-be" if data[:1] == b"\0" else "utf-16-le"
    try:
        return data.decode(encoding), None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        command = f"iconv -f {_code_page(data).upper()} -t UTF-8 '{path}' > '{path}.utf8'"
        fault = f"{path}:{line}: not UTF-8 (byte {error.start}); convert it, e.g. {command}"
        return data.decode(encoding, errors="replace"), fault


def _code_page(data: bytes) -> str:
    for name in CODE_PAGES:
        try:
            data.decode(name)
        except UnicodeDecodeError:
            continue
        return name
    return CODE_PAGES[-1]


def numbered_lines(text: str) -> list[tuple[int, str]]:
    r"""Lines that are not blank, with their numbers; ``\n``, ``\r\n`` and ``\r`` end one, U+2028 does not."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [(k, line) for k, line in enumerate(lines, start=1) if line.strip(" \t\f\ufeff")]


def is_ignored(text: str) -> bool:
    """Whether a transcription marks text to ignore: ``*``, or ``###`` and more, also quoted or before a score.

    >>> [is_ignored(text) for text in ("###", "'####',", "###,0.98", "*", "# 3", "")]
    [True, True, True, True, False, False]
    """
    bare = re.sub(r",\s*[\d.]*$", "", text.strip()).strip("'\"").strip()
    return bare == "*" or (len(bare) >= 3 and not bare.strip("#"))


def is_true(value: Any) -> bool:
    """Whether a flag is set, as tools write it: true, 1, or such a word."""
    return value is True or value == 1 or str(value).strip().lower() in ("true", "1", "yes")


def is_flagged(flags: Any) -> bool:
    """Whether the attributes of a text, by name, mark it as one to ignore."""
    return any(is_true(as_object(flags).get(key)) for key in IGNORE_FLAGS)


def as_object(value: Any) -> dict[str, Any]:
    """A JSON object; an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """A JSON list; an empty one in place of anything else."""
    return value if isinstance(value, list) else []


def read_json(path: Path) -> Any:
    """A JSON file.

    Raises:
        UserError: the file is missing or is no JSON; the message has the line.
    """
    try:
        return json.loads(read_text(path), object_pairs_hook=lambda pairs: _without_repeats(pairs, path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not valid JSON: {error.msg}") from error
    except RecursionError as error:
        raise UserError(f"{path}: not valid JSON: nested too deep") from error


def json_or_report(path: Path, report: Report) -> Any:
    """A JSON file that has the labels of one image; None, counted, when it cannot be read."""
    try:
        return read_json(path)
    except UserError as error:
        report.add("unparsable_line", path, str(error).removeprefix(f"{path}: "))
        return None


def _without_repeats(pairs: list[tuple[str, Any]], path: Path) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        repeated = next(key for k, (key, _) in enumerate(pairs) if key in dict(pairs[:k]))
        raise UserError(f"{path}: the key {repeated!r} is there twice: the labels of one of them would be lost")
    return content


def shortest(value: float) -> str:
    """A number in as few digits as read back to it, a whole one without a point."""
    return str(int(value)) if value == int(value) else repr(value)
