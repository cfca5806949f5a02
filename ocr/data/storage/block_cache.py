"""Cache of blocks of remote files on the local disk; the least recently read make room for others."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path

from ocr.data.storage.remote import read_range
from ocr.utils.locks import lock_file

log = logging.getLogger(__name__)
BLOCK_BYTES = 8 * 2**20  # that one request asks for: some 20 receipts, which take far longer than 20 ms of delay
ROOM_FRACTION = 0.9  # of the limit that is left in use when blocks were removed
LOCKS = 64  # blocks that are fetched at the same time by the processes of a machine
_thread_locks = [threading.Lock() for _ in range(LOCKS)]  # a file's lock is the process's own
_warned: set[str] = set()


@dataclass(frozen=True)
class BlockCache:
    """A cache that all processes of a machine share.

    Args:
        limit_bytes: of all blocks together; 0: nothing is kept.
    """

    folder: Path
    limit_bytes: int

    def read(self, url: str, version: str, size: int, start: int, end: int) -> bytes:
        """Bytes ``start`` to ``end`` of a remote file, the latter not included.

        Args:
            url: of the file.
            version: a digest of its content: another one is another file.
            size: of the file in bytes.

        Raises:
            UserError: it cannot be read.
        """
        if not self.limit_bytes:
            return read_range(url, start, end)
        parts = []
        for block in range(start // BLOCK_BYTES, -(-end // BLOCK_BYTES)):
            first = block * BLOCK_BYTES
            low, high = max(start - first, 0), min(end - first, BLOCK_BYTES)
            parts.append(self._block(url, version, first, min(first + BLOCK_BYTES, size), low, high))
        return b"".join(parts)

    def _block(self, url: str, version: str, first: int, last: int, low: int, high: int) -> bytes:
        """Bytes ``low`` to ``high`` of the block of bytes ``first`` to ``last``."""
        path = self.folder / f"{version}-{first // BLOCK_BYTES:06d}"
        if (data := _part(path, low, high)) is not None:
            return data
        k = zlib.crc32(path.name.encode()) % LOCKS
        with _thread_locks[k], contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # a folder that cannot be written, see _keep
                stack.enter_context(lock_file(self.folder / "locks" / str(k)))
            if (data := _part(path, low, high)) is not None:  # another process has fetched it meanwhile
                return data
            block = read_range(url, first, last)
            self._keep(path, block)
        return block[low:high]

    def _keep(self, path: Path, data: bytes) -> None:
        part = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            part.write_bytes(data)
            os.replace(part, path)
            self._make_room()
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            if str(self.folder) not in _warned:
                _warned.add(str(self.folder))
                log.warning("blocks of shards cannot be kept in %s (%s): they are read again", self.folder, error)

    def _make_room(self) -> None:
        """Where the limit is passed, remove the least recently read blocks, down to a part of it."""
        entries = [(e.stat(), e.path) for e in os.scandir(self.folder) if e.is_file()]
        used = sum(status.st_size for status, _ in entries)
        if used <= self.limit_bytes:
            return
        for status, path in sorted(entries, key=lambda entry: entry[0].st_mtime_ns):
            if used <= ROOM_FRACTION * self.limit_bytes:
                break
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            used -= status.st_size


def _part(path: Path, low: int, high: int) -> bytes | None:
    """Bytes of a block that is there, which counts as read from now on."""
    try:
        with path.open("rb") as file:
            os.utime(path)
            file.seek(low)
            data = file.read(high - low)
    except OSError:
        return None
    return data if len(data) == high - low else None
