"""Data at ``s3://``, ``gs://``, ``http://`` and whatever else fsspec knows.

Credentials are found as fsspec finds them (AWS profiles and variables, ``~/.config/fsspec``), never in the address,
which configs and records repeat.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import fsspec

from ocr.errors import UserError, first_line

log = logging.getLogger(__name__)
ATTEMPTS = 5
FIRST_WAIT_SECONDS = 0.5  # before the second attempt; twice as long before each further one
FINAL = (FileNotFoundError, PermissionError, NotImplementedError, IsADirectoryError)  # another attempt changes nothing
PASSING = (408, 425, 429)  # HTTP's errors of the client that another attempt may change
T = TypeVar("T")
logging.getLogger("aiobotocore").setLevel(logging.WARNING)  # it says where it found credentials, in each process


def is_remote(root: Any) -> bool:
    """Whether a root is an address instead of a folder.

    >>> is_remote("s3://bucket/receipts"), is_remote("receipts"), is_remote("C:/receipts")
    (True, False, False)
    """
    return isinstance(root, str) and "://" in root


def check_address(url: str) -> None:
    """Raise UserError where an address holds what may be a credential, or cannot have names added to its end.

    >>> check_address("https://bob:hunter2@host/receipts")
    Traceback (most recent call last):
    ocr.errors.UserError: data.root has a login in its address, which configs and records repeat: see docs/data.md ...
    """
    parts = urlsplit(url)
    login = "@" in parts.netloc and (parts.scheme.startswith("http") or ":" in parts.netloc.split("@")[0])
    if login or parts.query or parts.fragment:
        raise UserError(
            f"data.root has {'a login' if login else 'a query'} in its address, which configs and records repeat: "
            "see docs/data.md for where credentials go"
        )


def below(url: str, *names: str) -> str:
    """The address of what lies below another.

    >>> below("s3://bucket/receipts/", "train", "shards.json")
    's3://bucket/receipts/train/shards.json'
    """
    return "/".join([url.rstrip("/"), *(name for name in names if name)])


def file_system(url: str) -> tuple[Any, str]:
    """Fsspec's file system of an address, with the path there.

    Raises:
        UserError: there is none for it, or its package is not installed.
    """
    check_address(url)
    try:
        return fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        scheme = urlsplit(url).scheme
        how = "make setup EXTRAS=dev,remote installs the packages for s3:// and gs://"
        raise UserError(f"{url}: {scheme}:// cannot be read here ({first_line(error)}); {how}") from error


def persistently(read: Callable[[], T], url: str) -> T:
    """Call ``read()``, several times where it fails.

    Raises:
        UserError: it failed each time, or at once where another time changes nothing; the address is named.
    """
    for attempt in range(ATTEMPTS):
        try:
            return read()
        except UserError:
            raise
        except Exception as error:  # each file system has its own classes for a network that fails
            if attempt == ATTEMPTS - 1 or isinstance(error, FINAL) or 400 <= _status(error) < 500:
                said = "not found" if isinstance(error, FileNotFoundError) else _said(error)
                raise UserError(f"{url} cannot be read: {said}") from error
            log.warning("%s: %s; trying again", url, _said(error))
            time.sleep(FIRST_WAIT_SECONDS * 2**attempt)
    raise AssertionError


def _status(error: Any) -> int:
    """HTTP's, of the web client's errors that mean the same each time; else 0."""
    status = getattr(error, "status", 0)
    return status if isinstance(status, int) and status not in PASSING else 0


def _is_denied(answer: Any) -> bool:
    return isinstance(answer, PermissionError) or _status(answer) in (401, 403)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


def read_range(url: str, start: int, end: int) -> bytes:
    """Bytes ``start`` to ``end`` of a remote file, the latter not included.

    Raises:
        UserError: it cannot be read, has fewer bytes, or its server does not give parts of files.
    """

    def read() -> bytes:
        system, path = file_system(url)
        data = system.cat_file(path, start=start, end=end)
        if len(data) > end - start:
            raise UserError(f"{url}: the server gives whole files where a part was asked for")
        if len(data) < end - start:
            raise EOFError(f"{len(data)} bytes where {end - start} were asked for, from byte {start}")
        return data

    return persistently(read, url)


def read_files(urls: Sequence[str]) -> list[bytes | None]:
    """Whole remote files at once, small ones; None for one that is not there.

    Stores that do not list their files say of one that is not there that access is denied: that counts as the same
    where another one can be read.

    Raises:
        UserError: one cannot be read.
    """
    if not urls:
        return []

    def read() -> list[bytes | None]:
        system, _ = file_system(urls[0])
        paths = [file_system(url)[1] for url in urls]
        contents = system.cat(paths, on_error="return")
        readable = any(isinstance(value, bytes) for value in contents.values())
        for value in contents.values():
            missing = isinstance(value, FileNotFoundError) or (readable and _is_denied(value))
            if isinstance(value, Exception) and not missing:
                raise value
        return [data if isinstance(data := contents[path], bytes) else None for path in paths]

    return persistently(read, urls[0])
