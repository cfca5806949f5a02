"""Images without labels, for prediction."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ocr.data.formats.files import IMAGE_SUFFIXES
from ocr.data.index.arrays import StringTable
from ocr.data.index.check import read_header
from ocr.data.transforms.decode import UndecodableImage, decode, named
from ocr.errors import UserError
from ocr.types import Truth

LINK, FOLDER = "linked folder", "folder"  # what else is not looked at, besides files of other suffixes


@dataclass
class UnlabelledImages:
    """A source whose samples have no truth.

    Attributes:
        paths: of the image files.
        others: what lies beside them and is not looked at, names by suffix.
    """

    paths: StringTable
    others: dict[str, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, i: int) -> str:
        return self.paths[i]

    def load(self, i: int) -> tuple[np.ndarray, Truth]:
        """Image uint8 (H, W, 3) RGB, once its file has been found whole, and no labels."""
        path = Path(self.paths[i])
        with named(path):
            read_header(path)
        return decode(path), Truth([], np.zeros(0, bool))

    def sizes(self) -> np.ndarray:
        """int32 (S, 2), from the files' headers; (1, 1) where there is none to read."""
        return np.array([_size(Path(self.paths[i])) for i in range(len(self))], np.int32).reshape(-1, 2)


def _size(path: Path) -> tuple[int, int]:
    try:
        return read_header(path).size
    except UndecodableImage:
        return 1, 1


def find_images(source: str) -> UnlabelledImages:
    """The image, the images of a folder (with sub-folders), or those that a glob matches.

    Raises:
        UserError: nothing is found.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return UnlabelledImages(StringTable.build([str(path)]))
    matches = _below(path) if path.is_dir() else sorted((m, _kind(m)) for m in glob.glob(str(path), recursive=True))
    images = [name for name, kind in matches if kind in IMAGE_SUFFIXES]
    others: dict[str, list[str]] = {}
    for name, kind in matches:
        if kind not in IMAGE_SUFFIXES:
            others.setdefault(kind, []).append(name)
    if not images:
        reason = "no image in it" if path.is_dir() else "no such image or folder, and no image matches it as a glob"
        seen = f", but {in_words({kind: len(names) for kind, names in others.items()})}" if others else ""
        raise UserError(f"source={source}: {reason}{seen} (looked for {' '.join(sorted(IMAGE_SUFFIXES))})")
    return UnlabelledImages(StringTable.build(images), others)


def _below(folder: Path) -> list[tuple[str, str]]:
    """(path, kind) of all that lies in a folder, ordered by the path below it; hidden files only if they are images."""
    entries = []
    for directory, folders, names in os.walk(folder):
        entries += [(os.path.join(directory, n), LINK) for n in folders if os.path.islink(os.path.join(directory, n))]
        paths = ((os.path.join(directory, name), _suffix(name)) for name in names)
        entries += [(p, kind) for p, kind in paths if kind in IMAGE_SUFFIXES or not os.path.basename(p).startswith(".")]
    return sorted(entries, key=lambda match: os.path.relpath(match[0], folder).replace(os.sep, "/"))


def _kind(path: str) -> str:
    return FOLDER if os.path.isdir(path) else _suffix(path)


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower() or "no suffix"


def in_words(counts: Mapping[str, int]) -> str:
    """``2 .gif, 1 .pdf``: how many there are of each kind, the most frequent first."""
    return ", ".join(f"{n} {kind.replace('_', ' ')}" for kind, n in sorted(counts.items(), key=lambda c: (-c[1], c[0])))
