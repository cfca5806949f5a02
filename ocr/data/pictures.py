"""Pictures without labels, for prediction."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ocr.data.check import image_size
from ocr.data.images import UndecodableImage, decode
from ocr.data.index import StringTable
from ocr.data.readers.files import IMAGE_SUFFIXES, list_images
from ocr.errors import UserError
from ocr.types import Truth


@dataclass
class Pictures:
    """A source whose samples have no truth."""

    paths: StringTable
    weight: float = 1.0

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, i: int) -> str:
        return self.paths[i]

    def load(self, i: int) -> tuple[np.ndarray, Truth]:
        return decode(Path(self.paths[i])), Truth([], np.zeros(0, bool))

    def sizes(self) -> np.ndarray:
        """int32 (S, 2), from the files' headers; (1, 1) where there is none to read."""
        return np.array([_size(Path(self.paths[i])) for i in range(len(self))], np.int32).reshape(-1, 2)


def _size(path: Path) -> tuple[int, int]:
    try:
        return image_size(path)
    except UndecodableImage:
        return 1, 1


def find_pictures(source: str) -> Pictures:
    """The image, the images of a folder (with sub-folders), or those that a glob matches.

    Raises:
        UserError: nothing is found.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        found = [str(p) for p in list_images(path).values()]
    elif path.is_file():
        found = [str(path)]
    else:
        matches = sorted(glob.glob(str(path), recursive=True))
        found = [m for m in matches if Path(m).suffix.lower() in IMAGE_SUFFIXES]
    if not found:
        raise UserError(f"source={source}: no such image or folder, and no image matches it as a glob")
    return Pictures(StringTable.build(found))
