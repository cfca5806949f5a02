"""Pictures that are made instead of read: each is made once a run, and kept as a JPEG for all processes of it.

Drawing a receipt takes twenty times as long as decoding it, and every epoch of a set sees the same ones.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import pickle
import shutil
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from ocr.data.transforms.decode import SHRUNK
from ocr.geometry.polygons import flatten, unflatten
from ocr.types import Picture, Truth

try:
    import fcntl
except ImportError:  # Windows, where what a killed process leaves stays
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)
MOST = 512 * 2**20  # bytes that one process keeps of one source
PREFIX, IN_USE = "receipts_", "in_use"  # folders, and the file in each that a living process has locked
LEAVE_FREE = 2**30  # bytes of the disk that are left to others


@dataclass
class Drawing:
    """A picture that was made, and its labels.

    Attributes:
        jpeg: uint8 (B,), the file; its channels are stored as RGB without conversion.
        width, height: of the picture.
        truth: its labels.
    """

    jpeg: np.ndarray
    width: int
    height: int
    truth: Truth

    def picture(self) -> Picture:
        return Picture(self.width, self.height, self.truth, partial(_decode, self.jpeg))


def _decode(jpeg: np.ndarray, shrink: int) -> np.ndarray:
    return cv2.imdecode(jpeg, SHRUNK[shrink])


class DrawnOnce:
    """Keeps drawings in a folder among the temporary files, which goes when the process that made it ends.

    What a killed process has left there is removed by the next one. Worker processes find the same folder, whether
    they were forked or spawned. Where nothing can be written, or there is no more room, pictures are drawn again each
    time.

    Args:
        room: bytes that one process keeps.
    """

    def __init__(self, room: int = MOST) -> None:
        self._room = room
        try:
            self._folder: Path | None = Path(tempfile.mkdtemp(prefix=PREFIX))
        except OSError as error:
            self._give_up(error)
            return
        weakref.finalize(self, _remove, self._folder, _mark(self._folder), os.getpid())
        for folder in self._folder.parent.glob(f"{PREFIX}*"):
            _remove_if_left(folder)

    def __call__(self, i: int, draw: Callable[[int], Drawing]) -> Drawing:
        """Drawing ``i``: kept from before, by whichever process, or drawn now."""
        if self._folder is None:
            return draw(i)
        path = self._folder / str(i)
        try:
            return _unpack(path.read_bytes())
        except OSError:
            drawing = draw(i)
            self._keep(path, _pack(drawing))
            return drawing

    def _keep(self, path: Path, data: bytes) -> None:
        if self._room < len(data):
            return
        part = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            if shutil.disk_usage(path.parent).free < LEAVE_FREE:
                self._room = 0
                return
            part.write_bytes(data)
            part.replace(path)  # no process ever reads half of a file
            self._room -= len(data)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._folder = None
        log.warning("drawn pictures cannot be kept (%s): each is drawn anew every epoch; TMPDIR names the place", error)


def _mark(folder: Path) -> int | None:
    """Keep a file in the folder locked until its descriptor is closed, here and in forked processes.

    Returns:
        The descriptor; None where nothing can be locked, so that a folder which is left stays.
    """
    part = folder / f"{IN_USE}.part"
    try:
        lock = _lock(part, os.O_CREAT)
        part.replace(folder / IN_USE)  # nobody finds it before it is locked
    except OSError:
        return None
    return lock


def _lock(path: Path, flags: int = 0) -> int:
    """The descriptor of a file that is locked now.

    Raises:
        OSError: there is no such file, a living process has its lock, or this system has no such locks.
    """
    if not fcntl:
        raise OSError(errno.ENOLCK, "no locks")
    file = os.open(path, os.O_RDWR | flags, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise
    return file


def _remove(folder: Path, lock: int | None, owner: int) -> None:
    if os.getpid() == owner:  # a forked worker has the finalizer, too
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _remove_if_left(folder: Path) -> None:
    with contextlib.suppress(OSError):  # in use, or somebody else's
        _remove(folder, _lock(folder / IN_USE), os.getpid())


def _pack(drawing: Drawing) -> bytes:
    truth = drawing.truth
    parts = (drawing.jpeg, drawing.width, drawing.height, *flatten(truth.polygons), truth.ignore, truth.texts)
    return pickle.dumps(parts, protocol=pickle.HIGHEST_PROTOCOL)


def _unpack(data: bytes) -> Drawing:
    jpeg, width, height, points, offsets, ignore, texts = pickle.loads(data)  # written by this run, in a folder of ours
    return Drawing(jpeg, width, height, Truth(unflatten(points, offsets), ignore, texts))
