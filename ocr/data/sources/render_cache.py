"""Cache of rendered images: each is rendered once, stored as JPEG, and shared by workers, ranks and later runs.

Rendering a receipt takes twenty times as long as decoding it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL

from ocr.data.index.cache import cache_folder, remove_unused
from ocr.data.transforms.decode import DECODE_FLAGS
from ocr.types import LazySample, Truth
from ocr.utils.locks import lock_file

log = logging.getLogger(__name__)
CACHE_LIMIT_BYTES = 512 * 2**20  # written per source and process
FREE_LIMIT_BYTES = 2**30  # of the disk, left to others


@dataclass
class RenderedSample:
    """A rendered image and its labels.

    Attributes:
        jpeg: uint8 (B,), the file; its channels are stored as RGB without conversion.
        width, height: of the image, pixels.
        truth: its labels.
    """

    jpeg: np.ndarray
    width: int
    height: int
    truth: Truth

    def to_bytes(self) -> bytes:
        """A line of JSON, then the JPEG."""
        labels = {
            "size": [self.width, self.height], "jpeg_bytes": len(self.jpeg), "texts": self.truth.texts,
            "polygons": [p.tolist() for p in self.truth.polygons], "ignore": self.truth.ignore.tolist(),
        }  # fmt: skip
        return json.dumps(labels).encode() + b"\n" + self.jpeg.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> RenderedSample:
        """Inverse of :meth:`to_bytes`.

        Raises:
            ValueError: the data is cut off or not of this kind.
        """
        line, _, jpeg = data.partition(b"\n")
        labels = json.loads(line)
        if len(jpeg) != labels["jpeg_bytes"]:
            raise ValueError("cut off")
        polygons = [np.array(p, np.float32) for p in labels["polygons"]]
        truth = Truth(polygons, np.array(labels["ignore"], bool), labels["texts"])
        width, height = labels["size"]
        return cls(np.frombuffer(jpeg, np.uint8), width, height, truth)


def _read(path: Path) -> RenderedSample | None:
    """The sample in a file; None where there is none, or it is cut off."""
    try:
        return RenderedSample.from_bytes(path.read_bytes())
    except (OSError, ValueError, KeyError):
        return None


def _decode(jpeg: np.ndarray, shrink: int) -> np.ndarray:
    image = cv2.imdecode(jpeg, DECODE_FLAGS[shrink])
    assert image is not None, "a stored image cannot be decoded"
    return image


def cache_key(*settings: Any) -> str:
    """Hex digest of a source's settings, of the code that renders and of the libraries that it uses."""
    digest = hashlib.sha256(json.dumps([cv2.__version__, PIL.__version__, np.__version__, *settings]).encode())
    for path in sorted((Path(__file__).parents[1] / "synthetic").glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:32]


class RenderCache:
    """A folder per source in the user's cache, see :func:`ocr.data.index.cache.cache_folder`.

    Where nothing can be written, or there is no more room, images are rendered again each time.

    Args:
        key: of the source, see :func:`cache_key`.
        limit: bytes that one process writes.
    """

    def __init__(self, key: str, limit: int = CACHE_LIMIT_BYTES) -> None:
        self.folder = cache_folder("rendered") / key
        self._left = limit
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            os.utime(self.folder)
            remove_unused(self.folder.parent)
        except OSError as error:
            self._give_up(error)

    def __call__(self, name: str, render: Callable[[], RenderedSample]) -> RenderedSample:
        """The sample stored under a name, or rendered now; of several processes one renders it, the others wait."""
        path = self.folder / name
        if (stored := _read(path)) is not None:
            return stored
        if self._left <= 0:
            return render()
        lock = path.with_name(f"{name}.lock")
        try:
            with lock_file(lock):
                if (stored := _read(path)) is not None:
                    return stored
                sample = render()
                self._store(path, sample.to_bytes())
                return sample
        except OSError as error:
            self._give_up(error)
            return render()
        finally:
            with contextlib.suppress(OSError):
                lock.unlink(missing_ok=True)

    def _store(self, path: Path, data: bytes) -> None:
        if self._left < len(data):
            return
        part = path.with_name(f"{path.name}.{os.getpid()}_{threading.get_ident()}.part")
        try:
            if shutil.disk_usage(path.parent).free < FREE_LIMIT_BYTES:
                self._left = 0
                return
            part.write_bytes(data)
            part.replace(path)  # no process ever reads half of a file
            self._left -= len(data)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        if self._left:
            log.warning("rendered images cannot be stored in %s (%s): they are rendered again every epoch; "
                        "XDG_CACHE_HOME names another place", self.folder, error)  # fmt: skip
        self._left = 0


class RenderedSource:
    """Base of sources whose samples are rendered; each is taken from :attr:`_cache` from the second time on."""

    _cache: RenderCache

    def load(self, i: int) -> tuple[np.ndarray, Truth]:
        """Image uint8 (H, W, 3) RGB and labels of sample i."""
        sample = self.open(i)
        return sample.pixels(1), sample.truth

    def open(self, i: int) -> LazySample:
        """Sample i with pixels only as fine as they are needed."""
        sample = self._cache(self._file_name(i), partial(self._render, i))
        return LazySample(sample.width, sample.height, sample.truth, partial(_decode, sample.jpeg))

    def sizes(self) -> None:
        """Unknown before they are rendered."""

    def _file_name(self, i: int) -> str:
        """Name of sample i in the cache."""
        return str(i)

    def _render(self, i: int) -> RenderedSample:
        raise NotImplementedError
