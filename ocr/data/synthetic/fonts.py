"""Fonts for synthetic receipts: the system's where there are any, Pillow's own always."""

from __future__ import annotations

import os
import sys
from functools import cache, lru_cache
from pathlib import Path

from PIL import ImageFont

from ocr.errors import UserError

FAMILIES = (
    "dejavu", "liberation", "notosans", "notoserif", "nanum", "freemono", "freesans", "roboto", "ubuntu", "courier",
    "arial", "helvetica", "menlo", "consola", "malgun", "applegothic", "baekmuk", "unfonts", "hack", "inconsolata",
)  # fmt: skip
EXCLUDED_STYLES = ("italic", "oblique", "math", "emoji", "symbol", "extralight", "thin", "vf", "[")
MAX_SYSTEM_FONTS = 16


def _folders() -> list[Path]:
    home = Path.home()
    if sys.platform == "darwin":
        return [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"]
    if sys.platform == "win32":
        return [Path(os.environ.get("WINDIR", r"C:\Windows"), "Fonts")]
    return [Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), home / ".local/share/fonts", home / ".fonts"]


@cache
def system_fonts() -> tuple[str, ...]:
    """Paths of usable system fonts of known families, sorted by file name, those with Hangul first."""
    fonts: dict[str, str] = {}
    for folder in _folders():
        for directory, _, names in os.walk(folder):
            for name in names:
                low = name.lower().replace("-", "").replace("_", "")
                known = low.endswith((".ttf", ".otf", ".ttc")) and low.startswith(FAMILIES)
                if known and not any(word in low for word in EXCLUDED_STYLES):
                    fonts.setdefault(name, os.path.join(directory, name))
    usable = [path for _, path in sorted(fonts.items()) if has_letter(path, "A")]
    usable.sort(key=lambda path: not has_hangul(path))
    return tuple(usable[:MAX_SYSTEM_FONTS])


@lru_cache(maxsize=512)
def load(path: str | None, size: int) -> ImageFont.FreeTypeFont:
    """A font at a pixel size; ``None`` is Pillow's own."""
    if path is None:
        return ImageFont.load_default(size)  # type: ignore[return-value]
    return ImageFont.truetype(path, size)


@cache
def has_hangul(path: str | None) -> bool:
    """Whether the font draws Hangul."""
    return has_letter(path, "\uac00")


@cache
def is_monospaced(path: str | None) -> bool:
    """Whether narrow and wide letters take the same room."""
    font = load(path, 32)
    return abs(font.getlength("i") - font.getlength("W")) < 1


@cache
def folder_fonts(folder: str) -> tuple[str, ...]:
    """Paths of the font files in a folder, sorted by name.

    Raises:
        UserError: there are none, or one cannot be read.
    """
    paths = sorted(str(path) for path in Path(folder).glob("*") if path.suffix.lower() in (".ttf", ".otf", ".ttc"))
    if not paths:
        raise UserError(f"no font (.ttf, .otf, .ttc) in {folder}")
    unsound = [path for path in paths if not has_letter(path, "A")]
    if unsound:
        raise UserError(f"a font without Latin letters: {unsound[0]}")
    return tuple(paths)


@cache
def has_letter(path: str | None, character: str) -> bool:
    """Whether the font has a glyph of its own for a character, not the box for missing ones."""
    try:
        font = load(path, 24)
        drawn, missing = font.getmask(character), font.getmask("\U0010fffd")
    except OSError:
        return False
    return drawn.getbbox() is not None and bytes(drawn) != bytes(missing)
