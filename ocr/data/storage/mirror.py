"""A folder of this machine for data that lies elsewhere.

Of shards it has the list and the indexes, and says where the tars are; of other sets it is a copy.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ocr.data.formats.detect import SPLIT_WORDS
from ocr.data.formats.shards import LIST, check_index_file, read_list
from ocr.data.index.cache import cache_folder, remove_unused
from ocr.data.storage.remote import below, check_address, file_system, is_remote, persistently, read_files
from ocr.errors import UserError
from ocr.utils.files import write_atomic
from ocr.utils.locks import lock_file

log = logging.getLogger(__name__)
GIGABYTE = 10**9
ORIGIN = "origin.json"  # of a folder with the list of shards that lie elsewhere: their address
COPIED = ".copied.json"  # what of a set was copied, each file as its place describes it
FILES_PER_RECORD = 256  # copied before the record of it is written


@functools.cache
def local_folder(root: str | Path, cache_gb: float) -> Path:
    """The folder to read a root from: its own, or one in the cache for an address.

    Args:
        root: a folder, or an address that fsspec knows.
        cache_gb: the most that may be kept on disk, in 10^9 bytes.

    Raises:
        UserError: the address cannot be read, has nothing, or has more than the cache may.
    """
    if not is_remote(root):
        return Path(root).expanduser()
    url = str(root)
    check_address(url)
    if urlsplit(url).scheme in ("file", "local"):
        return Path(file_system(url)[1])
    folder = cache_folder("remote") / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:24]
    with lock_file(folder.with_suffix(".lock")):  # the ranks of a machine start at the same time
        folder.mkdir(parents=True, exist_ok=True)
        if not _list_shards(url, folder):
            _copy(url, folder, cache_gb)
        os.utime(folder)
        remove_unused(folder.parent)
    return folder


def origin(folder: Path) -> str | None:
    """The address of the tars of a folder with a list of shards; None where they lie in it."""
    path = folder / ORIGIN
    return json.loads(path.read_text(encoding="utf-8"))["url"] if path.is_file() else None


def _list_shards(url: str, folder: Path) -> bool:
    """Fetch the lists of shards that an address has, and their indexes; whether there is one."""
    parts = ["", *sorted(SPLIT_WORDS)]
    contents = read_files([below(url, part, LIST) for part in parts])
    for part, content in zip(parts, contents, strict=True):
        address, here = below(url, part), folder / part
        if content is None:
            (here / LIST).unlink(missing_ok=True)
            continue
        shards = {shard.index_file: shard for shard in read_list(content, below(address, LIST))}
        missing = [name for name, shard in shards.items() if not _is_current(here / name, shard.index_sha256)]
        for name, index in zip(missing, read_files([below(address, name) for name in missing]), strict=True):
            if index is None:
                raise UserError(f"{below(address, name)}, which {LIST} names, is not there: copy the set again")
            check_index_file(index, shards[name], below(address, name))
            write_atomic(here / name, index)
        write_atomic(here / ORIGIN, json.dumps({"url": address}))
        write_atomic(here / LIST, content)
    return any(content is not None for content in contents)


def _is_current(path: Path, sha256: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def _copy(url: str, folder: Path, cache_gb: float) -> None:
    """Copy a set of loose files; those that have not changed since are kept."""
    system, path = file_system(url)
    listing: dict[str, dict[str, Any]] = persistently(lambda: system.find(path, detail=True), url)
    files = {}
    for name, status in listing.items():
        relative = name.removeprefix(path.rstrip("/")).lstrip("/")
        if relative and "?" not in relative and ".." not in Path(relative).parts and not relative.startswith("."):
            files[relative] = (name, _state(status))
    if not files:
        raise UserError(f"{url}: nothing is listed there (data.root)")
    total = sum(status.get("size") or 0 for status in listing.values())
    if total > cache_gb * GIGABYTE:
        raise UserError(
            f"{url} has {total / GIGABYTE:.1f} GB of loose files, and data.cache_gb={cache_gb:g}: raise that, or "
            "convert the set where it lies (runners/convert.py format=shards): shards are read in parts"
        )
    record = folder / COPIED
    before: dict[str, Any] = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    copied = {name: state for name, state in before.items() if files.get(name, (0, 0))[1] == state}
    for name in before.keys() - copied.keys():
        (folder / name).unlink(missing_ok=True)
    missing = sorted(files.keys() - {name for name in copied if (folder / name).is_file()})
    if missing:
        log.info("copying %d files of %s into %s", len(missing), url, folder)
    for k in range(0, len(missing), FILES_PER_RECORD):
        names = missing[k : k + FILES_PER_RECORD]
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        sources, targets = [files[name][0] for name in names], [str(folder / name) for name in names]
        persistently(functools.partial(system.get, sources, targets), url)
        for name, target in zip(names, targets):
            size = files[name][1][0]
            if size is not None and os.path.getsize(target) != size:
                raise UserError(f"{below(url, name)}: {os.path.getsize(target)} bytes arrived of {size}")
            copied[name] = files[name][1]
        write_atomic(record, json.dumps(copied))


def _state(status: Mapping[str, Any]) -> list[Any]:
    """A key that tells two contents of a remote file apart, as far as its file system says."""
    times = (status.get(key) for key in ("ETag", "etag", "LastModified", "mtime", "updated", "md5Hash"))
    return [status.get("size"), next((str(value) for value in times if value), None)]
