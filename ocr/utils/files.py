"""Files that are whole or not there: written beside their target, flushed to disk, then renamed; and checked."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ocr.errors import NO_SPACE, UserError, disk_full

PARTIAL_SUFFIX = ".part"  # end of the name of a file that is being written


def make_folder(path: Path, setting: str) -> Path:
    """A folder that can be written to, made where it is not there; ``setting`` names it in the message.

    Raises:
        UserError: it cannot be made, or not be written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        if error.errno in NO_SPACE:
            raise disk_full(path) from error
        raise UserError(f"{setting}={path}: {error.strerror}: name a folder that can be written to") from error
    return path


def write_atomic(path: str | Path, content: str | bytes | memoryview) -> Path:
    """Write a file atomically, text in UTF-8; make its folder. The old content stays until the new is on disk.

    A kill or a power cut leaves the old or the new content under this name, never a part of it.

    Raises:
        UserError: the disk is full; the old file is untouched, and nothing is left of the new one.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    with replacing(path, len(data)) as file:
        file.write(data)
    return Path(path)


@contextlib.contextmanager
def replacing(path: str | Path, size: int | None = None) -> Iterator[BinaryIO]:
    """A file to write to that becomes ``path`` when the block ends without an exception.

    ``size``: bytes that will be written, for the message on a full disk.

    Raises:
        UserError: the disk is full.
    """
    path = Path(path)
    part = path.with_name(path.name + PARTIAL_SUFFIX)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        flush_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            raise disk_full(path.parent, path.name, size) from error
        raise


def copy_atomic(source: Path, target: Path) -> None:
    """Copy a file as :func:`write_atomic` writes one."""
    with source.open("rb") as content, replacing(target, source.stat().st_size) as file:
        shutil.copyfileobj(content, file, 1 << 20)


def save_tensors(content: Mapping[str, Any], path: str | Path) -> None:
    """``torch.save`` as :func:`write_atomic` writes; packed in memory first, since its writer aborts on a full disk."""
    import torch

    packed = io.BytesIO()
    torch.save(content, packed)
    write_atomic(path, packed.getbuffer())


def flush_files(folder: Path) -> None:
    """Flush all files of a folder to disk, before the folder is renamed to its final name."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    flush_folder(folder)


def flush_folder(folder: Path) -> None:
    """Have the system write a folder's list of names to disk, where it can."""
    with contextlib.suppress(OSError):  # Windows opens no folders; some network file systems do not flush them
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def archive_fault(path: Path) -> str | None:
    """The fault of a checkpoint as a zip file, in a few words; None when it is whole.

    Reads every byte and compares the sums, which ``torch.load`` does not: about a second per gigabyte.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            # torch stores its records as they are: an entry that is packed could be made to unpack without end
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                return "it is a zip file, but none that torch has written"
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        return f"damaged or cut off: {error}"
    return None if damaged is None else f"damaged: the checksum of its part {damaged} does not match"
